"""The scene of step 4: a database with an outbox beside other tables, and what becomes of its rows in Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from psycopg.types.json import Jsonb

from labkit.build.workplace import Workplace
from labstack.clients import broker, http
from labstack.clients.broker import Record
from labstack.clients.database_server import ADMINISTRATOR, RELAY
from labstack.clients.databases import connect
from labstack.clients.relay import Relay
from labstack.waiting import poll_until

TABLES = f"""
    CREATE TABLE customers (customer_id text PRIMARY KEY, iban text NOT NULL);
    CREATE TABLE returns (
        return_id uuid PRIMARY KEY, customer_id text NOT NULL REFERENCES customers, amount_cents int NOT NULL
    );
    CREATE TABLE page_views (view_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, page text NOT NULL);
    CREATE TABLE outbox (
        id uuid PRIMARY KEY,
        aggregatetype text NOT NULL,
        aggregateid text NOT NULL,
        type text NOT NULL,
        payload jsonb NOT NULL,
        traceparent text,
        tenant text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    GRANT SELECT ON outbox TO {RELAY};
    INSERT INTO customers VALUES ('ada', 'GB33 BUKB 2020 1555 5555 55');
"""
INSERT = """
    WITH new AS (INSERT INTO returns VALUES (%(return_id)s, 'ada', 1780))
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, traceparent, tenant)
    VALUES (%(id)s, 'returns', %(return_id)s, 'ReturnRequested', %(payload)s, %(traceparent)s, 'teashop')
"""
HEADERS = {"ce_id": "id", "ce_type": "type", "traceparent": "traceparent"}
LATER_HEADERS = {**HEADERS, "tenant": "tenant"}
UNLIMITED = 1_048_588
"""Kafka's default of ``max.message.bytes``."""


@dataclass(frozen=True)
class OutboxRow:
    """A row of the outbox.

    Attributes
    ----------
    return_id : str
        The return, which is the record's key.
    columns : dict
        The text of each column that a header can carry.
    payload : dict
        The payload.
    """

    return_id: str
    columns: dict[str, str | None]
    payload: dict[str, Any]

    @classmethod
    def new(cls, *, is_traced: bool = True, **more: Any) -> OutboxRow:
        """Return an event about a new return; `more` goes into its payload."""
        return_id = str(uuid.uuid4())
        columns = {
            "id": str(uuid.uuid4()),
            "type": "ReturnRequested",
            "traceparent": f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01" if is_traced else None,
            "tenant": "teashop",
        }
        lines = [{"sku": "earl-grey", "quantity": 2, "unit_price_cents": 890}]
        payload = {"return_id": return_id, "customer": "Zoë", "amount_cents": 1780, "note": None, "lines": lines}
        return cls(return_id, columns, payload | more)

    def is_in(self, record: Record) -> bool:
        """Return whether a record carries this event, in whatever form."""
        return self.return_id in (record.value or b"").decode(errors="replace")


@dataclass(frozen=True)
class ConnectorStatus:
    """The state of the connector as Connect reports it, and the reason if it has failed."""

    state: str
    reason: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether the connector or its task has failed, so that only a restart can help."""
        return self.state == "FAILED"

    def __str__(self) -> str:
        return f"the connector is {self.state}{f' ({self.reason})' if self.reason else ''}"


class RelayStage:
    """The database, topics and connector of one workplace.

    Parameters
    ----------
    place : Workplace
        The workplace; gets the tables, and the settings of the learner's file.
    """

    def __init__(self, place: Workplace) -> None:
        self.place = place
        name, connection = place.name, place.connection
        self.topic, self.later_topic = f"{name}.events", f"{name}.events.v2"
        self.connector, self.slot = f"{name}-outbox", f"{name}_outbox"
        place.environment |= {
            "CONNECTOR": self.connector,
            "SLOT": self.slot,
            "DATABASE_HOST": connection["database.hostname"],
            "DATABASE_PORT": connection["database.port"],
            "DATABASE_USER": connection["database.user"],
            "DATABASE_NAME": connection["database.dbname"],
        }
        self._known_topics = set(broker.topic_names(place.kafka))
        self._astray: set[str] = set()
        place.execute(TABLES)

    # -- the outbox ------------------------------------------------------------------------------------------------

    def write(self, *events: OutboxRow) -> tuple[OutboxRow, ...]:
        """Commit each event together with its row in the table returns; return the events."""
        with connect(self.place.database_url, autocommit=True) as database:
            for event in events:
                columns = {name: event.columns[name] for name in ("id", "traceparent")}
                payload = Jsonb(event.payload)
                database.execute(INSERT, {**columns, "return_id": event.return_id, "payload": payload})
        return events

    def slot_row(self, position: str = "0/0") -> dict[str, Any]:
        """Return whether the slot has confirmed a position, and how many bytes it retains; empty without a slot."""
        query = """
            SELECT confirmed_flush_lsn >= %s::pg_lsn AS confirmed, pg_current_wal_lsn()::text AS position,
                   pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint AS retained
            FROM pg_replication_slots WHERE slot_name = %s
        """
        with connect(self.place.server.url(ADMINISTRATOR, "postgres")) as server:
            row = server.execute(query, [position, self.slot]).fetchone()
        return dict(zip(("confirmed", "position", "retained"), row, strict=True)) if row else {}

    def wait_for_reader(self) -> None:
        """Wait until the connector reads a slot of this database, or has failed."""
        query = "SELECT FROM pg_replication_slots WHERE database = %s AND active"

        def is_over() -> bool:
            with connect(self.place.server.url(ADMINISTRATOR, "postgres")) as server:
                is_read = bool(server.execute(query, [self.place.name]).fetchall())
            return is_read or self.status().has_failed

        poll_until(is_over, 30, interval=0.2)

    # -- Kafka -----------------------------------------------------------------------------------------------------

    def records(self, *topics: str) -> list[Record]:
        """Return the records of topics; of the connector's two topics by default."""
        return broker.read_all(self.place.kafka, topics or (self.topic, self.later_topic))

    def missing(self, events: Iterable[OutboxRow], *topics: str) -> list[OutboxRow]:
        """Return the events of which these topics (by default both) have no record."""
        records = self.records(*topics)
        return [event for event in events if not any(event.is_in(record) for record in records)]

    def wait_for(self, events: Iterable[OutboxRow], timeout: float = 60) -> list[OutboxRow]:
        """Wait until all events have a record or the connector has failed; return the events without a record.

        An event in a topic to which the connector should not have sent it ends the wait, too.
        """
        wanted = list(events)
        missing = wanted

        def is_over() -> bool:
            nonlocal missing
            missing = self.missing(wanted)
            return not missing or self.status().has_failed or bool(self.astray(missing[0]))

        poll_until(is_over, timeout, interval=0.2)
        return missing

    def astray(self, event: OutboxRow) -> list[str]:
        """Return the other new topics that have a record of an event."""
        others = set(broker.topic_names(self.place.kafka)) - self._known_topics - {self.topic, self.later_topic}
        if others:
            self._astray |= {record.topic for record in self.records(*others) if event.is_in(record)}
        return sorted(self._astray)

    @contextmanager
    def refusing(self, limit: int) -> Iterator[None]:
        """Make Kafka refuse records of more than `limit` bytes in the topic during the block."""
        self._limit(limit)
        try:
            yield
        finally:
            self._limit(UNLIMITED)

    def _limit(self, value: int) -> None:
        entry = ConfigEntry("max.message.bytes", str(value), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.topic, incremental_configs=[entry])
        with broker.admin_with_metadata(self.place.kafka) as client:
            for future in client.incremental_alter_configs([resource], request_timeout=10).values():
                future.result(broker.REQUEST_TIMEOUT)

    # -- Connect ---------------------------------------------------------------------------------------------------

    def _get(self, path: str = "") -> Any:
        try:
            answer = http.get(f"{self.place.connect_url}/connectors/{self.connector}{path}", timeout=10)
            return answer.json() if answer.status_code == 200 else {}
        except (httpx.HTTPError, ValueError):
            return {}

    def config(self) -> Mapping[str, str]:
        """Return the connector's current configuration; empty if Connect does not know it."""
        found: dict[str, str] = self._get("/config")
        return found

    def status(self) -> ConnectorStatus:
        """Return the connector's state: that of its task, or of the connector if it has no task."""
        found = self._get("/status")
        if not found:
            return ConnectorStatus("unknown to Connect")
        parts = [*found["tasks"], found["connector"]]
        worst = next((part for part in parts if part["state"] == "FAILED"), parts[0])
        causes = [line for line in worst.get("trace", "").splitlines() if line and not line.startswith("\t")]
        reason = causes[-1].removeprefix("Caused by: ").rpartition("Exception: ")[2] if causes else ""
        return ConnectorStatus(worst["state"], reason[:200])

    def restart_failed(self) -> None:
        """Restart what has failed, as an operator does."""
        url = f"{self.place.connect_url}/connectors/{self.connector}/restart?includeTasks=true&onlyFailed=true"

        def accepted() -> bool:
            try:
                return http.request("POST", url, timeout=10).status_code < 400
            except httpx.HTTPError:
                return False

        poll_until(accepted, 30, interval=0.2)

    def close(self) -> None:
        """Delete the topics to which the connector has sent events by mistake, and first the connector itself."""
        if self._astray:
            relay = Relay(self.place.connect_url)
            for connector in relay.connectors_of([self.place.name]):
                relay.delete(connector)
            broker.delete_topics(self.place.kafka, self._astray)
