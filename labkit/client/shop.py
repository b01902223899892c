"""The shop's API for customers and the shopkeeper: over HTTP, through the gateway."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

import httpx
from pydantic import Field

from labkit.aliases import Aliases, order_id
from labkit.client.load import Load, place_orders
from labkit.client.traffic import UNSENDABLE, VERSION_HEADER, Traffic, send, unsendable
from labkit.errors import Conflict, KitError, NotFound, Refused, ShopUnavailable, WaitTimedOut, running
from labservices.contract import TERMINAL
from labstack import Lab, waiting
from labstack.arguments import Seconds, Text, checked_class
from labstack.clients import http
from labstack.errors import one_of
from labstack.lifecycle.report import busy

ADVICE = {404: "`shop.products()` lists the products; datasets/customers.csv lists the customers"}
"""The next step after an answer about something else than an order, by status."""

Times = Annotated[int, Field(ge=1, le=100_000)]
AtOnce = Annotated[int, Field(ge=1, le=1000)]
Rate = Annotated[float, Field(gt=0)] | None

FILTERS = ("status", "customer_id", "limit")

SHOWN_HEADERS = ("content-type", "location", "retry-after")


@dataclass(frozen=True)
class Order:
    """An order, as the order service returned it at one moment.

    Attributes
    ----------
    order_id : str
        The order's id.
    alias : str
        Its short name.
    status : str
        PENDING, RESERVED, PAID, COMPLETED, CANCELLING or CANCELLED.
    document : dict
        The whole answer.
    """

    order_id: str
    alias: str
    status: str
    document: dict[str, Any]

    @property
    def total_cents(self) -> int:
        """The total price, in cents."""
        return int(self.document["total_cents"])

    @property
    def failure_reason(self) -> str | None:
        """The reason of the failure; None if the order did not fail."""
        reason: str | None = self.document["failure_reason"]
        return reason

    def __repr__(self) -> str:
        who, where = self.document["customer_id"], self.document["destination"]
        what = ", ".join(f"{line['quantity']} × {line['sku']}" for line in self.document["items"])
        why = f" ({self.failure_reason})" if self.failure_reason else ""
        money = f"{self.total_cents / 100:.2f} {self.document['currency']}"
        return f"{self.alias}: {who} orders {what} to {where} for {money} · {self.status}{why}"


class Exchange:
    """One request and its answer, as sent over the wire, with short names for the ids."""

    def __init__(self, answer: httpx.Response, aliases: Aliases) -> None:
        self.answer = answer
        self._aliases = aliases

    def __repr__(self) -> str:
        request, answer, tidy = self.answer.request, self.answer, self._aliases.tidy
        lines = [f"{request.method} {tidy(request.url.raw_path.decode())}"]
        if "idempotency-key" in request.headers:
            lines.append(f"idempotency-key: {request.headers['idempotency-key']}")
        if request.content:
            lines += ["content-type: application/json", "", json.dumps(json.loads(request.content), indent=2)]
        lines += ["", f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}"]
        lines += [f"{name}: {tidy(answer.headers[name])}" for name in SHOWN_HEADERS if name in answer.headers]
        is_json = "json" in answer.headers.get("content-type", "")
        body = json.dumps(tidy(answer.json()), indent=2, ensure_ascii=False) if is_json else tidy(answer.text)
        return "\n".join([*lines, "", body])


@checked_class
class Shop:
    """A client of the four services.

    Parameters
    ----------
    lab : Lab
        The running lab.
    aliases : Aliases
        Names for the ids.

    Examples
    --------
    >>> order = shop.place_order("ada", "lisbon", {"earl-grey": 2})
    >>> shop.follow(order)
    order-1: ada orders 2 × earl-grey to lisbon for 17.80 EUR · COMPLETED
    """

    def __init__(self, lab: Lab, aliases: Aliases) -> None:
        self._lab = lab
        self._aliases = aliases
        self._http = http.client(timeout=10)
        weakref.finalize(self, self._http.close)
        self.last: Exchange | None = None

    def origin(self, service: str) -> str:
        """Return the URL for requests to a service: the gateway's, as for every client."""
        where = running(self._lab)
        if service not in where.services:
            raise ShopUnavailable(f"Unknown service {service!r}.", next_step=one_of(service, where.services))
        return where.client(service)

    def request(
        self, method: str, service: str, path: str, *, headers: dict[str, str] | None = None, **arguments: Any
    ) -> Any:
        """Send one request, and return the content of its JSON answer; `last` keeps the request and the answer.

        Raises
        ------
        Refused, ShopUnavailable
            The answer is an error, or there is no answer.
        """
        try:
            answer = self._http.request(method, self.origin(service) + path, headers=headers, **arguments)
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, *UNSENDABLE) as error:
            raise unsendable(method, path, error) from None
        except httpx.HTTPError as error:
            raise ShopUnavailable(
                f"The gateway doesn't answer ({type(error).__name__}).",
                next_step="`lab` shows how it is, `lab.start('envoy')` starts it",
            ) from None
        self.last = Exchange(answer, self._aliases)
        is_json = "json" in answer.headers.get("content-type", "")
        if answer.status_code < 400 and is_json:
            return answer.json()
        if answer.status_code < 400:
            raise KitError(
                f"{method} {path[:80]} answered {answer.status_code} without JSON.",
                next_step="`shop.last.answer` holds the answer",
            )
        document = self._aliases.tidy(answer.json()) if is_json else {}
        document.setdefault("status", answer.status_code)
        if answer.status_code >= 500:
            # A service's answer carries its version; an answer without one comes from the gateway itself.
            who = f"The {service} service" if VERSION_HEADER in answer.headers else f"The gateway, for {service},"
            raise ShopUnavailable(
                f"{who} answered {answer.status_code}: {document.get('detail', answer.text[:200])}",
                next_step="`lab` shows whether every component runs; `look.mesh.log()` shows what the gateway did",
            )
        kind = {404: NotFound, 409: Conflict}.get(answer.status_code, Refused)
        raise kind(document, "" if path.startswith("/orders") else ADVICE.get(answer.status_code, ""))

    def traffic(
        self,
        times: Times,
        path: str = "/orders?limit=1",
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: Any = None,
        at_once: AtOnce = 1,
        per_second: Rate = None,
    ) -> Traffic:
        """Send the same request repeatedly through the gateway. Error answers are counted, not raised.

        Parameters
        ----------
        times : int
            The number of requests.
        path : str
            The path, with its query.
        method : str
            The HTTP method.
        headers : dict, optional
            Additional headers.
        body : object, optional
            The body, sent as JSON.
        at_once : int
            The number of concurrent requests.
        per_second : float, optional
            The number of requests to start per second; as many as possible by default.

        Returns
        -------
        Traffic
            The answers: their senders, statuses and durations.

        Examples
        --------
        >>> shop.traffic(60)
        60 × GET /orders?limit=1: 60 × 200 from v1
        """
        log = self._lab.mesh.access_log
        options: dict[str, Any] = {"method": method, "headers": headers, "body": body, "at_once": at_once}
        options["per_second"] = per_second
        return send(self.origin("order"), log, times, path, **options)

    def load(self, count: int, per_second: float, *, evenly: bool = False, seed: int = 12) -> Load:
        """Place many orders, as many customers would: each when it is due, whether or not earlier ones were answered.

        Parameters
        ----------
        count : int
            The number of orders, out of ``datasets/streams/load.csv``.
        per_second : float
            The average number of orders per second.
        evenly : bool
            Whether orders are due at equal intervals; by default the intervals are random.
        seed : int
            Seed of the random intervals: the same seed gives the same moments.

        Returns
        -------
        Load
            The answers; ``orders`` holds the ids of the orders.

        Examples
        --------
        >>> shop.load(40, per_second=10)
        40 orders, 10 a second: 40 × 201
        """
        return place_orders(self.origin("order"), count, per_second, evenly=evenly, seed=seed)

    def place_order(
        self,
        customer_id: str,
        destination: str,
        items: dict[str, int] | list[dict[str, Any]],
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Order:
        """Place an order.

        Parameters
        ----------
        customer_id, destination : str
            The customer, and the destination.
        items : dict
            The quantity by sku; or the order lines in the API's format.
        key : str, optional
            Idempotency key: requests with the same key create only one order.
        headers : dict, optional
            Additional headers.
        """
        lines = items if isinstance(items, list) else [{"sku": s, "quantity": n} for s, n in items.items()]
        body = {"customer_id": customer_id, "destination": destination, "items": lines}
        headers = {**(headers or {}), **({"Idempotency-Key": key} if key else {})}
        return self._order(self.request("POST", "order", "/orders", json=body, headers=headers))

    def order(self, order: Order | str) -> Order:
        """Return the current state of an order."""
        return self._order(self.request("GET", "order", f"/orders/{self._known(order)}"))

    def orders(self, **filters: str) -> Iterator[Order]:
        """Iterate over the orders, newest first, filtered by ``status=`` and ``customer_id=`` if given."""
        if unknown := next((name for name in filters if name not in FILTERS), None):
            raise KitError(f"Orders can't be filtered by {unknown!r}.", next_step=one_of(unknown, FILTERS))
        return map(self._order, self._pages("order", "/orders", filters))

    def history(self, order: Order | str) -> list[dict[str, Any]]:
        """Return the status changes of an order."""
        return list(self._pages("order", f"/orders/{self._known(order)}/history", {}))

    def cancel(self, order: Order | str) -> Order:
        """Cancel an order."""
        return self._order(self.request("POST", "order", f"/orders/{self._known(order)}/cancel"))

    def follow(self, order: Order | str, timeout: Seconds = 40) -> Order:
        """Wait until an order is COMPLETED or CANCELLED, and return it.

        Raises
        ------
        WaitTimedOut
            The order reached neither state in time; the message contains its status and the components that were down.
        """
        seen: list[Order] = []

        def ended() -> bool:
            seen[:] = [self.order(order)]
            return seen[0].status in TERMINAL

        with busy("waiting for the end of an order"):
            has_ended = waiting.poll_until(ended, timeout)
        if not has_ended:
            raise WaitTimedOut(
                f"Waited {timeout:g} s for the end of {seen[0].alias}; it is still {seen[0].status}.",
                next_step="`lab.check()` tells what the order waits for; `lab.reset()` restores the initial data",
                lab=self._lab,
            )
        return seen[0]

    def products(self) -> list[dict[str, Any]]:
        """Return every product with its stock, by sku."""
        return list(self._pages("inventory", "/inventory/products", {}))

    def product(self, sku: Text) -> dict[str, Any]:
        """Return one product with its stock."""
        return self._document("GET", "inventory", f"/inventory/products/{_segment(sku)}")

    def restock(self, sku: Text, quantity: int) -> dict[str, Any]:
        """Add delivered goods to the warehouse's stock."""
        return self._document(
            "POST", "inventory", f"/inventory/products/{_segment(sku)}/restock", json={"quantity": quantity}
        )

    def account(self, customer_id: Text) -> dict[str, Any]:
        """Return a customer's account."""
        return self._document("GET", "payment", f"/payments/accounts/{_segment(customer_id)}")

    def deposit(self, customer_id: Text, amount_cents: int) -> dict[str, Any]:
        """Pay money into a customer's account."""
        path = f"/payments/accounts/{_segment(customer_id)}/deposit"
        return self._document("POST", "payment", path, json={"amount_cents": amount_cents})

    def reservations(self, order: Order | str) -> list[dict[str, Any]]:
        """Return the reservations of inventory for an order."""
        return list(self._pages("inventory", "/inventory/reservations", {"order_id": self._known(order)}))

    def payments(self, order: Order | str) -> list[dict[str, Any]]:
        """Return the payments for an order, with their ledger entries."""
        return list(self._pages("payment", "/payments", {"order_id": self._known(order)}))

    def shipments(self, order: Order | str) -> list[dict[str, Any]]:
        """Return the shipments for an order."""
        return list(self._pages("shipping", "/shipping/shipments", {"order_id": self._known(order)}))

    def id(self, order: Order | str) -> str:
        """Return the id of an order, given the order, its id, or its short name."""
        return order.order_id if isinstance(order, Order) else self._aliases.id(order)

    def _known(self, order: Order | str) -> str:
        return order.order_id if isinstance(order, Order) else order_id(self._aliases, order)

    def _order(self, document: dict[str, Any]) -> Order:
        order_id = document["order_id"]
        return Order(order_id, self._aliases.name(order_id, "order"), document["status"], document)

    def _document(self, method: str, service: str, path: str, **arguments: Any) -> dict[str, Any]:
        document: dict[str, Any] = self.request(method, service, path, **arguments)
        return document

    def _pages(self, service: str, path: str, filters: dict[str, str]) -> Iterator[dict[str, Any]]:
        cursor: dict[str, str] = {}
        while True:
            page = self.request("GET", service, path, params={**filters, **cursor})
            yield from page["items"]
            if not page["next_cursor"]:
                return
            cursor = {"cursor": page["next_cursor"]}


def _segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="")
