"""Customers who order at a steady rate and cancel some orders; each response is compared with the order's outcome."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg

from labservices.datasets import StreamOrder, load_stream
from labstack import Lab
from labstack.config.paths import DATASETS
from tests.stack.orders import TERMINAL, all_orders

CANCELLED_FRACTION = 0.1
"""Fraction of the orders that their customers cancel, most of them while the saga runs."""

RETRY_SECONDS = 240.0
"""Seconds during which a customer retries a request."""

RETRYABLE_STATUSES = {408, 503}
"""HTTP statuses that are expected before a retry. A service that was paused while it received a request answers 408."""


@dataclass
class CustomerOrder:
    """One customer's order, and the shop's responses to it."""

    order: StreamOrder
    cancel_after: float | None
    order_id: str = ""
    cancel_status: int | None = None

    def allows_outcome(self, seen: dict[str, Any]) -> bool:
        """Report whether the order's outcome is valid, given the stream and the shop's responses to the customer."""
        status, reason = seen["status"], seen["failure_reason"]
        if self.cancel_status == 409 or status == "COMPLETED":
            return status == self.order.expected_status == "COMPLETED" and self.cancel_status != 202 and reason is None
        reasons = {self.order.expected_reason, "deadline_exceeded"}
        reasons |= {"cancelled_by_customer"} if self.cancel_after is not None else set()
        return status == "CANCELLED" and reason in reasons - {"", None}


@dataclass
class Customers:
    """Customers who order at a steady rate; each retries with the same idempotency key until the shop responds.

    Parameters
    ----------
    lab : Lab
        The lab in which they order.
    number : int
        Number of orders; the stream of mixed outcomes is repeated as often as needed.
    rate : float
        Orders per second.
    seed : int
        Seed for the choice of the cancelled orders, and of their times.
    """

    lab: Lab
    number: int
    rate: float
    seed: int
    retries: int = 0
    unexpected_responses: list[str] = field(default_factory=list)
    orders: list[CustomerOrder] = field(default_factory=list)
    seconds: float = 0.0
    _connections: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(40))
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        rng = random.Random(self.seed)
        stream = load_stream(DATASETS / "streams" / "mixed.csv")
        for number in range(self.number):
            after = (
                rng.choice([0.0, rng.uniform(0, 0.5), rng.uniform(0, 5)]) if rng.random() < CANCELLED_FRACTION else None
            )
            self.orders.append(CustomerOrder(stream[number % len(stream)], after))

    @property
    def names(self) -> set[str]:
        """The customers."""
        return {one.order.customer_id for one in self.orders}

    def start(self) -> Customers:
        """Start ordering."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._order_all()), daemon=True)
        self._thread.start()
        return self

    @property
    def is_done(self) -> bool:
        """Report whether every customer has a response or has stopped retrying."""
        return self._thread is not None and not self._thread.is_alive()

    @property
    def placed(self) -> int:
        return sum(bool(one.order_id) for one in self.orders)

    async def _order_all(self) -> None:
        began = time.monotonic()
        where = self.lab.endpoints.client("order")
        # One connection per request: a connection pool can block forever when its server freezes and dies.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(base_url=where, timeout=8, limits=limits, trust_env=False) as client,
            asyncio.TaskGroup() as group,
        ):
            for number, customer_order in enumerate(self.orders):
                await asyncio.sleep(began + number / self.rate - time.monotonic())
                group.create_task(self._place_and_cancel(client, customer_order))
        self.seconds = time.monotonic() - began

    async def _place_and_cancel(self, client: httpx.AsyncClient, customer_order: CustomerOrder) -> None:
        body = {
            "customer_id": customer_order.order.customer_id,
            "destination": customer_order.order.destination,
            "items": [{"sku": line.sku, "quantity": line.quantity} for line in customer_order.order.items],
        }
        answer = await self._retry(
            client, {200, 201}, "/orders", json=body, headers={"Idempotency-Key": str(uuid.uuid4())}
        )
        if answer is None:
            return
        customer_order.order_id = answer.json()["order_id"]
        if customer_order.cancel_after is not None:
            await asyncio.sleep(customer_order.cancel_after)
            answer = await self._retry(client, {202, 409}, f"/orders/{customer_order.order_id}/cancel")
            customer_order.cancel_status = answer.status_code if answer else None

    async def _retry(self, client: httpx.AsyncClient, good: set[int], path: str, **what: Any) -> httpx.Response | None:
        deadline, wait = time.monotonic() + RETRY_SECONDS, 0.2
        while time.monotonic() < deadline:
            answer = None
            async with self._connections:
                with suppress(httpx.HTTPError):
                    answer = await client.post(path, **what)
            if answer is not None and answer.status_code in good:
                return answer
            if answer is not None and answer.status_code not in RETRYABLE_STATUSES:
                self.unexpected_responses.append(f"POST {path}: {answer.status_code} {answer.text[:300]}")
            self.retries += 1
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))
            wait = min(2 * wait, 3.0)
        self.unexpected_responses.append(f"POST {path}: no answer within {RETRY_SECONDS:.0f} s")
        return None

    # --- results

    def unfinished(self) -> int:
        """Return the number of orders that are not terminal."""
        with psycopg.connect(self.lab.endpoints.databases["order"], connect_timeout=5) as connection:
            row = connection.execute(
                "SELECT count(*) FROM orders WHERE status <> ALL (%s)", [list(TERMINAL)]
            ).fetchone()
        return int(row[0]) if row else 0

    def complaints(self) -> list[str]:
        """Return the customers' complaints; every order should be terminal by now."""
        seen = all_orders(self.lab)
        known = {one.order_id: one for one in self.orders if one.order_id}
        found = list(self.unexpected_responses)
        found += [f"order {order_id} was accepted, and is gone" for order_id in known.keys() - seen.keys()]
        found += [f"order {order_id} is nobody's" for order_id in seen.keys() - known.keys()]
        for order_id in known.keys() & seen.keys():
            if not known[order_id].allows_outcome(seen[order_id]):
                end = f"{seen[order_id]['status']} ({seen[order_id]['failure_reason']})"
                stream, cancel = known[order_id].order, known[order_id].cancel_status
                expected = f"{stream.expected_status} ({stream.expected_reason}), cancel: {cancel}"
                found.append(f"order {order_id} ended {end}; the stream says {expected}")
        return found

    def outcomes(self) -> dict[str, int]:
        """Count the orders by outcome."""
        orders = all_orders(self.lab).values()
        return dict(Counter(order["failure_reason"] or order["status"] for order in orders).most_common())
