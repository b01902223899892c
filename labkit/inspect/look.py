"""Inspection of the running system: databases, topics, the relay, metrics, traces, the gateway, and live views."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from labkit.aliases import Aliases
from labkit.client.shop import Order
from labkit.errors import KitError
from labkit.inspect import by_service
from labkit.inspect.connect import Connectors
from labkit.inspect.databases import Databases
from labkit.inspect.mesh import GatewayState
from labkit.inspect.metrics import Metrics
from labkit.inspect.scope import Orders, Scope
from labkit.inspect.topics import Topics
from labkit.inspect.tracing import Traces
from labkit.views.drawing.timeline import Timeline, steps_of
from labkit.views.feed import Feed
from labkit.views.flow import Flow
from labkit.views.positions import Positions
from labkit.views.stream import EventStream
from labkit.views.system_map import SystemMap
from labservices.contract import events_topic
from labstack import Lab
from labstack.arguments import Positive, Seconds, checked_class
from labstack.clients import broker
from labstack.errors import one_of
from labstack.jupyter.web_pages import Pages


@checked_class
class Look:
    """Shows the content and the state of the running system.

    Parameters
    ----------
    lab : Lab
        The running lab.
    aliases : Aliases
        Names for the ids.

    Attributes
    ----------
    db : Databases
        Rows of the services' databases.
    kafka : Topics
        Records of the topics, and the offsets of consumer groups.
    connect : Connectors
        Debezium's connectors.
    metrics : Metrics
        Metrics, alerts, charts and dashboards.
    traces : Traces
        The traces of orders.
    mesh : GatewayState
        Routes and log of the gateway.

    Examples
    --------
    >>> look.db.rows("order", "SELECT status FROM orders WHERE order_id = %(order)s", order=order)
    >>> look.kafka.records(order)
    """

    def __init__(self, lab: Lab, aliases: Aliases) -> None:
        self._scope = Scope(lab, aliases)
        self.aliases = aliases
        self.db = Databases(self._scope)
        self.kafka = Topics(self._scope)
        self.connect = Connectors(self._scope, self.db, self.kafka)
        self.metrics = Metrics(self._scope)
        self.traces = Traces(self._scope)
        self.mesh = GatewayState(self._scope)
        self._shared_feed: Feed | None = None

    # -- orders in all services ------------------------------------------------------------------------------------

    def by_service(self, order: Order | str) -> pd.DataFrame:
        """Return each service's view of an order, side by side: status, reason, effects and published events."""
        return by_service.order_by_service(self._scope.endpoints, self._scope.order_id(order))

    def deliveries(self, orders: Orders) -> pd.DataFrame:
        """Return for each event of these orders its number of records, and how often each inbox contains it."""
        return by_service.event_deliveries(self._scope.endpoints, self._scope.order_ids(orders))

    def timeline(self, order: Order | str) -> Timeline:
        """Return what happened to an order, when and where: from outbox rows, records and inboxes."""
        order_id, endpoints = self._scope.order_id(order), self._scope.endpoints
        topics = [events_topic(service) for service in endpoints.services]
        records = [record for record in broker.read_all(endpoints.kafka, topics) if record.key == order_id]
        steps = steps_of(order_id, endpoints.readable, records)
        if not steps:
            raise KitError(f"Unknown order {order!r}.", next_step="`list(shop.orders())` lists all orders")
        return Timeline(str(self.aliases.tidy(order_id, "order_id")), steps)

    def wait_for_rest(self, orders: Orders, without: str | None = None, timeout: Seconds = 30) -> None:
        """Wait until every service has handled all events of these orders.

        Parameters
        ----------
        orders : Order, str or list
            The orders.
        without : str, optional
            A service to leave out because it is down.
        timeout : float
            Seconds, at most.
        """
        if without is not None and without not in (known := self._scope.endpoints.services):
            raise KitError(f"Unknown service {without!r}.", next_step=one_of(without, known))
        by_service.wait_for_rest(self._scope.endpoints, self._scope.order_ids(orders), without, timeout)

    # -- presentation ----------------------------------------------------------------------------------------------

    def table(self, documents: Iterable[dict[str, Any]], *columns: str) -> pd.DataFrame:
        """Return JSON objects as a table, with these columns if any are given."""
        tidied = [self.aliases.tidy(document) for document in documents]
        return pd.DataFrame(tidied, columns=list(columns) or None)

    def pages(self) -> Pages:
        """Return links to the lab's web pages: of observability, Envoy, and the services' APIs."""
        return Pages(self._scope.lab.endpoints)

    # -- live views ------------------------------------------------------------------------------------------------

    @property
    def _feed(self) -> Feed:
        """The event feed that all live views of this kernel share."""
        if self._shared_feed is None:
            self._shared_feed = Feed(self._scope.lab)
        return self._shared_feed

    def flow(self, seconds: Positive = 60) -> Flow:
        """Show live, for some seconds, how rows of the four outbox tables become records in Kafka."""
        self._scope.require_running()
        return Flow(self._feed, self.aliases, seconds)

    def map(self) -> SystemMap:
        """Show the system map: the diagram, in which events light up their path. Live while it is shown."""
        return SystemMap(self._feed, self.aliases)

    def stream(self) -> EventStream:
        """Show records as they arrive in Kafka, in a table with filters. Live while it is shown."""
        return EventStream(self._feed, self.aliases)

    def positions(self) -> Positions:
        """Show outbox, write-ahead log and topic side by side. Live while it is shown."""
        return Positions(self._feed, self._scope.lab, self.aliases)
