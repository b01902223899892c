"""Views into the lab: the rows of four databases, the records of four topics, and the relay between them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpx
import pandas as pd
import psycopg
from prometheus_client.parser import text_string_to_metric_families
from psycopg.rows import tuple_row

from labkit.aliases import Aliases
from labkit.client.shop import Order
from labkit.client.traffic import meaning
from labkit.errors import KitError, QueryFailed, ShopUnavailable, running
from labkit.inspect import by_service
from labkit.inspect import records as kafka_records
from labkit.inspect.decoding import Decoding
from labkit.inspect.observability import Observability
from labkit.inspect.records import RecordView
from labkit.views.feed import Feed
from labkit.views.flow import Flow
from labkit.views.positions import Positions
from labkit.views.stream import EventStream
from labkit.views.system_map import SystemMap
from labkit.waiting import wait_until
from labstack import Lab
from labstack.backends.base import Endpoints
from labstack.clients import broker
from labstack.clients.relay import connector_name
from labstack.errors import one_of
from labstack.jupyter.web_pages import Pages

QUERY_SECONDS = 15

ROW_TIMES = """
    SELECT id::text, extract(epoch FROM created_at)::float8 FROM outbox WHERE aggregateid::text = ANY(%s)
"""

ROUTE_COLUMNS = ["name", "match", "to", "policy"]
ISTIO_RETRIES = "2 retries on connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"

Orders = Order | str | Sequence[Order | str]
"""One order or several: `Order` objects, their ids, or their short names."""


class Look(Observability, Decoding):
    """Shows the content of the databases, of the topics and of the relay.

    Parameters
    ----------
    lab : Lab
        The running lab.
    aliases : Aliases
        Names for the ids.

    Examples
    --------
    >>> look.sql("order", "SELECT status FROM orders WHERE order_id = %(order)s", order=order)
    >>> look.records(order)
    """

    def __init__(self, lab: Lab, aliases: Aliases) -> None:
        self._lab = lab
        self.aliases = aliases
        self._shared_feed: Feed | None = None

    # -- databases -------------------------------------------------------------------------------------------------

    @property
    def _endpoints(self) -> Endpoints:
        return running(self._lab)

    def connect(self, service: str) -> psycopg.Connection[Any]:
        """Open a connection to a service's database.

        As a context manager the connection is one transaction: it commits at the end of the block, rolls back when the
        block raises, and closes.

        Examples
        --------
        >>> with look.connect("order") as db:
        ...     db.execute("INSERT INTO ...")
        """
        databases = {**self._endpoints.databases, **self._lab.extensions.databases}
        if service not in databases:
            raise KitError(f"There is no database of {service!r}.", next_step=one_of(service, databases))
        try:
            return psycopg.connect(databases[service], connect_timeout=5)
        except psycopg.OperationalError as error:
            raise ShopUnavailable(
                f"The database of {service} doesn't answer: {str(error).splitlines()[-1]}",
                next_step=f"`lab` shows how it is, `lab.start('{service}-db')` starts it",
            ) from None

    def sql(self, service: str, query: str, **parameters: Any) -> pd.DataFrame:
        """Run a read-only query in a service's database, and return the rows as a table.

        Parameters
        ----------
        service : str
            The owner of the database: order, inventory, payment or shipping.
        query : str
            SQL; ``%(name)s`` stands for a parameter.
        **parameters : object
            Orders and short names are replaced by their ids.

        Raises
        ------
        QueryFailed
            PostgreSQL rejects the query; the message contains its error.
        """
        values = {name: self._parameter(value) for name, value in parameters.items()}
        with self.connect(service) as db:
            db.read_only = True
            try:
                with db.cursor(row_factory=tuple_row) as cursor:
                    cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{QUERY_SECONDS}s"])
                    cursor.execute(query.encode(), values or None)
                    if cursor.description is None:
                        raise QueryFailed("The query gives no rows.", next_step="ask for something with SELECT")
                    columns = [column.name for column in cursor.description]
                    found = cursor.fetchall()
            except psycopg.Error as error:
                raise QueryFailed(f"{service} says: {str(error).strip()}") from None
        return pd.DataFrame([self._row(columns, row) for row in found], columns=columns)

    def changes(
        self,
        service: str,
        query: str,
        until: Callable[[pd.DataFrame], bool],
        timeout: float = 30,
        **parameters: Any,
    ) -> pd.DataFrame:
        """Run a query in a service's database repeatedly, and return every result that differs from the previous one.

        Parameters
        ----------
        service, query, **parameters
            As for `sql`.
        until : callable
            Called with a result; returns whether to stop waiting.
        timeout : float
            Seconds, at most.

        Returns
        -------
        DataFrame
            The rows of all results, one below the other; `seconds` is the time at which each was first seen.
        """
        start = time.monotonic()
        seen: list[pd.DataFrame] = []

        def is_last() -> bool:
            rows = self.sql(service, query, **parameters)
            if len(rows) and not (seen and rows.equals(seen[-1].drop(columns="seconds"))):
                seen.append(rows.assign(seconds=round(time.monotonic() - start, 1)))
            return until(rows)

        wait_until(is_last, timeout, what=f"the rows of {service} to come to what is asked for")
        return pd.concat(seen, ignore_index=True)

    def _row(self, columns: list[str], row: Iterable[Any]) -> list[Any]:
        tidied = [self.aliases.tidy(value, column) for column, value in zip(columns, row, strict=True)]
        return [json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value for value in tidied]

    def _parameter(self, value: Any) -> Any:
        if isinstance(value, Order):
            return value.order_id
        if isinstance(value, list):
            return [self._parameter(one) for one in value]
        return self.aliases.id(value) if isinstance(value, str) else value

    def table(self, documents: Iterable[dict[str, Any]], *columns: str) -> pd.DataFrame:
        """Return JSON objects as a table, with these columns if any are given."""
        tidied = [self.aliases.tidy(document) for document in documents]
        return pd.DataFrame(tidied, columns=list(columns) or None)

    # -- topics ----------------------------------------------------------------------------------------------------

    @property
    def topics(self) -> list[str]:
        """The topics of the events."""
        return [f"{service}.events" for service in [*self._endpoints.services, *self._lab.extensions.names]]

    def take(
        self, n: int, orders: Orders | None = None, topic: str | None = None, timeout: float = 30
    ) -> list[RecordView]:
        """Return `n` records. Wait for those that are still in flight.

        Parameters
        ----------
        n : int
            The number of records; reading stops after the n-th.
        orders : Order, str or list, optional
            Only the records of these orders (or of this key).
        topic : str, optional
            Only the records of this topic.
        timeout : float
            Seconds, at most.
        """
        topics = [topic] if topic else self.topics
        found = kafka_records.take(self._endpoints.kafka, topics, n, keys=self._keys(orders), timeout=timeout)
        return self._views(found)

    def records(self, orders: Orders | None = None, topic: str | None = None) -> list[RecordView]:
        """Return the records that are there now."""
        found = broker.read_all(self._endpoints.kafka, [topic] if topic else self.topics)
        keys = self._keys(orders)
        return self._views([record for record in found if kafka_records.wanted(record, keys)])

    def record(self, order: Order | str, event_type: str, timeout: float = 30) -> RecordView:
        """Return an order's record of one type. Wait for it if necessary."""

        def find() -> RecordView | None:
            return next((view for view in self.records(order) if view.record.type == event_type), None)

        view = wait_until(find, timeout, what=f"a record {event_type}")
        assert view is not None  # wait_until raises instead
        return view

    def offsets(self, group: str, topic: str) -> pd.DataFrame:
        """Return the offsets of a consumer group in a topic: a row for each partition.

        Parameters
        ----------
        group : str
            The group's name. A service's group has the name of the service.
        topic : str
            The topic.

        Returns
        -------
        DataFrame
            ``partition``; ``start``, the offset of the oldest record; ``committed``, the offset up to which the group
            has handled every record, NaN if it has committed none; ``end``, the offset of the next record.
        """
        kafka = self._endpoints.kafka
        partitions = broker.partitions(kafka, [topic])
        if not partitions:
            raise KitError(f"There is no topic {topic!r}.", next_step=f"the shop's are {', '.join(self.topics)}")
        committed = broker.committed_offsets(kafka, group)
        starts, ends = broker.start_offsets(kafka, partitions), broker.end_offsets(kafka, partitions)
        rows = [
            (partition[1], starts[partition], committed.get(partition), ends[partition]) for partition in sorted(ends)
        ]
        return pd.DataFrame(rows, columns=["partition", "start", "committed", "end"])

    def events(self, views: Iterable[RecordView]) -> pd.DataFrame:
        """Return records as a table: topic, order, type, event, and the event that caused it."""
        rows = [
            {
                "topic": view.record.topic,
                "order": self.aliases.tidy(view.record.key, "order"),
                "type": view.record.type,
                "event": self.aliases.tidy(view.record.headers.get("ce_id"), "event"),
                "cause": self.aliases.tidy(view.record.headers.get("causation_id") or "-", "cause"),
            }
            for view in views
        ]
        return pd.DataFrame(rows, columns=["topic", "order", "type", "event", "cause"])

    def _views(self, found: list[broker.Record]) -> list[RecordView]:
        return [RecordView(record, self.aliases) for record in kafka_records.in_order_of_cause(found)]

    def _keys(self, orders: Orders | None) -> set[str] | None:
        if orders is None:
            return None
        return {str(self._parameter(one)) for one in ([orders] if isinstance(orders, Order | str) else orders)}

    # -- one order everywhere --------------------------------------------------------------------------------------

    def by_service(self, order: Order | str) -> pd.DataFrame:
        """Return each service's view of an order, side by side: status, reason, effects and published events."""
        return by_service.order_by_service(self._endpoints, str(self._parameter(order)))

    def deliveries(self, orders: Orders) -> pd.DataFrame:
        """Return for each event of these orders its number of records, and how often each inbox contains it."""
        return by_service.event_deliveries(self._endpoints, self._keys(orders) or set())

    def wait_for_rest(self, orders: Orders, without: str | None = None, timeout: float = 30) -> None:
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
        by_service.wait_for_rest(self._endpoints, self._keys(orders) or set(), without, timeout)

    # -- the relay between them ------------------------------------------------------------------------------------

    def relay(self, orders: Orders) -> pd.DataFrame:
        """Return for each service the number of these orders' outbox rows, records and rows still waiting."""
        keys = self._keys(orders) or set()
        seen = {view.record.headers.get("ce_id") for view in self.records(orders)}
        rows = []
        for service in self._endpoints.services:
            with self.connect(service) as db:
                found = db.execute("SELECT id::text FROM outbox WHERE aggregateid::text = ANY(%s)", [list(keys)])
                ids = {row[0] for row in found}
            rows.append((service, len(ids), len(ids & seen), len(ids - seen)))
        return pd.DataFrame(rows, columns=["service", "outbox rows", "records", "waiting"])

    def connector(self, service: str) -> dict[str, str]:
        """Return the current configuration of a service's connector in Connect (without the password)."""
        url = f"{self._endpoints.connect}/connectors/{connector_name(service)}/config"
        try:
            answer = httpx.get(url, timeout=10, trust_env=False)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise ShopUnavailable(
                f"Connect doesn't answer ({type(error).__name__}).",
                next_step="`lab` shows how it is, `lab.start('connect')` starts it",
            ) from None
        return {name: value for name, value in sorted(answer.json().items()) if "password" not in name}

    def metric(self, service: str, name: str, **labels: str) -> int:
        """Return a service's metric since its start: the sum over all labels that are not given.

        An additional version has the name that the lab uses: ``order-v2``.
        """
        text = self._get(service, "/metrics").text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return int(sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items()))

    def consumer(self, service: str) -> dict[str, Any]:
        """Return the state of the consumer of a service, or of an additional version: state, group, partitions."""
        document: dict[str, Any] = self._get(service, "/manage/consumer").json()
        return document

    def _get(self, name: str, path: str) -> httpx.Response:
        where = self._endpoints
        url = {**where.services, **where.versions, **self._lab.extensions.urls}.get(name)
        try:
            if url is None:
                raise httpx.ConnectError("it is not there")
            return httpx.get(url + path, timeout=10, trust_env=False).raise_for_status()
        except httpx.HTTPError as error:
            raise ShopUnavailable(
                f"{name} does not answer at {path} ({type(error).__name__}).",
                next_step=f"`lab` shows how it is, `lab.start('{name}')` starts it",
            ) from None

    def waits(self, orders: Orders) -> pd.DataFrame:
        """Return the time of each outbox row of these orders, and of its record: the data of `waits_chart`."""
        keys = self._keys(orders) or set()
        published_at = {view.record.headers.get("ce_id"): view.record.time / 1000 for view in self.records(orders)}
        rows = []
        for service in self._endpoints.services:
            with self.connect(service) as db:
                found = db.execute(ROW_TIMES, [list(keys)]).fetchall()
            rows += [(service, created_at, published_at.get(event_id)) for event_id, created_at in found]
        return pd.DataFrame(sorted(rows, key=lambda row: row[1]), columns=["service", "row", "record"])

    # -- the gateway -----------------------------------------------------------------------------------------------

    def routes(self) -> pd.DataFrame:
        """Return Envoy's current routes, in the order in which it tries them: the first match applies.

        `policy` abbreviates the default retries that Istio adds to a route without a retry policy.
        """
        routes = pd.DataFrame([route.to_json() for route in self._lab.mesh.routes()], columns=ROUTE_COLUMNS)
        return routes.assign(policy=routes.policy.str.replace(ISTIO_RETRIES, "Istio's 2 retries", regex=False))

    def gateway_log(self, lines: int = 10) -> pd.DataFrame:
        """Return the gateway's last requests, newest last.

        The columns include the status, the version that answered, the number of attempts, and the meaning of the
        response flags.
        """
        rows = [
            {
                "method": entry["method"],
                "path": self.aliases.tidy(entry["path"]),
                "status": entry["response_code"],
                "version": entry["service_version"] or "-",
                "tries": entry["attempts"] or 0,
                "flag": entry["response_flags"],
                "meaning": meaning(entry["response_flags"]),
            }
            for entry in self._lab.mesh.access_log(lines)
        ]
        return pd.DataFrame(rows, columns=["method", "path", "status", "version", "tries", "flag", "meaning"])

    def pages(self) -> Pages:
        """Return links to the lab's web pages: Prometheus, Jaeger, Grafana, Envoy, and the services' APIs."""
        return Pages(self._lab.endpoints)

    # -- live views ------------------------------------------------------------------------------------------------

    @property
    def _feed(self) -> Feed:
        """The event feed that all live views of this kernel share."""
        if self._shared_feed is None:
            self._shared_feed = Feed(self._lab)
        return self._shared_feed

    def flow(self, seconds: float = 60) -> Flow:
        """Show live, for some seconds, how rows of the four outbox tables become records in Kafka."""
        return Flow(self._feed, self.aliases, seconds)

    def map(self) -> SystemMap:
        """Show the system map: the diagram, in which events light up their path. Live while it is shown."""
        return SystemMap(self._feed, self.aliases)

    def stream(self) -> EventStream:
        """Show records as they arrive in Kafka, in a table with filters. Live while it is shown."""
        return EventStream(self._feed, self.aliases)

    def positions(self) -> Positions:
        """Show outbox, write-ahead log and topic side by side. Live while it is shown."""
        return Positions(self._feed, self._lab, self.aliases)
