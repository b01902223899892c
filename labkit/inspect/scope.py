"""What the inspection objects share: the lab, its endpoints, and the short names of orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from labkit.aliases import Aliases, order_id
from labkit.client.shop import Order
from labkit.errors import KitError, ShopUnavailable, running
from labservices.contract import events_topic
from labstack import Lab
from labstack.backends.base import Endpoints
from labstack.clients import http
from labstack.errors import one_of
from labstack.lab import access_of

Orders = Order | str | Sequence[Order | str]
"""One order or several: `Order` objects, their ids, or their short names."""


class Scope:
    """A lab, and the short names of its ids.

    Parameters
    ----------
    lab : Lab
        The running lab.
    aliases : Aliases
        Names for the ids.
    """

    def __init__(self, lab: Lab, aliases: Aliases) -> None:
        self.lab = lab
        self.aliases = aliases

    @property
    def endpoints(self) -> Endpoints:
        """The endpoints of the running lab."""
        return running(self.lab)

    def require_running(self) -> None:
        """Raise `ShopUnavailable` if the lab is down."""
        running(self.lab)

    @property
    def topics(self) -> list[str]:
        """The topics of the events."""
        return [events_topic(service) for service in [*self.endpoints.services, *self.lab.extensions.names]]

    def order_id(self, order: Order | str) -> str:
        """Return the id of an order."""
        return order.order_id if isinstance(order, Order) else order_id(self.aliases, order)

    def order_ids(self, orders: Orders) -> set[str]:
        """Return the ids of one order or several."""
        return {self.order_id(one) for one in _listed(orders)}

    def keys(self, orders: Orders) -> set[str]:
        """Return the keys of the records of one order or several; any other text is a key itself."""
        return {str(self.parameter(one)) for one in _listed(orders)}

    def parameter(self, value: Any) -> Any:
        """Return a query's parameter, with ids in place of orders and short names."""
        if isinstance(value, Order):
            return value.order_id
        if isinstance(value, list):
            return [self.parameter(one) for one in value]
        return self.aliases.id(value) if isinstance(value, str) else value

    def get(self, service: str, path: str) -> httpx.Response:
        """Request a path of a service, of an additional version, or of an extension service.

        Raises
        ------
        ShopUnavailable
            It does not run or does not answer.
        """
        endpoints = self.endpoints
        urls = {**endpoints.services, **endpoints.versions, **self.lab.extensions.urls}
        backend = access_of(self.lab).backend()
        optional = [name for name in backend.components() if backend.component(name).optional]
        known = dict.fromkeys([*urls, *optional])
        if service not in known:
            raise KitError(f"Unknown service {service!r}.", next_step=one_of(service, known))
        url = urls.get(service)
        try:
            if url is None:
                raise httpx.ConnectError("it does not run")
            return http.get(url + path, timeout=10).raise_for_status()
        except httpx.HTTPError as error:
            raise ShopUnavailable(
                f"{service} does not answer at {path} ({type(error).__name__}).",
                next_step=f"`lab` shows its state, `lab.start('{service}')` starts it",
            ) from None


def _listed(orders: Orders) -> Sequence[Order | str]:
    return [orders] if isinstance(orders, Order | str) else orders
