"""The evidence of the referee: rows of the four databases, each read in one snapshot, and the records of the topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from confluent_kafka import KafkaException
from psycopg.rows import dict_row

from labservices.contract import events_topic
from labstack.backends.base import Endpoints
from labstack.clients import broker, probe_event
from labstack.errors import NotRunning

Row = dict[str, Any]

# All queries of a database run in one snapshot.
QUERIES: dict[str, dict[str, str]] = {
    "order": {
        "orders": "SELECT order_id::text, status, total_cents FROM orders",
        "effects": """
            SELECT order_id::text, effect, count(*) AS times FROM order_answers GROUP BY 1, 2 HAVING count(*) > 1""",
    },
    "inventory": {
        "products": """
            SELECT p.sku, p.on_hand, p.reserved, p.shipped,
                   coalesce(sum(m.quantity) FILTER (WHERE m.effect IN ('opening', 'restock')), 0)::bigint AS taken_in,
                   coalesce(sum(m.quantity) FILTER (WHERE m.effect = 'ship'), 0)::bigint AS sent_out,
                   coalesce(sum(CASE m.effect WHEN 'reserve' THEN m.quantity
                                              WHEN 'release' THEN -m.quantity
                                              WHEN 'ship' THEN -m.quantity END), 0)::bigint AS promised
            FROM products p LEFT JOIN stock_movements m USING (sku) GROUP BY p.sku""",
        "held": """
            SELECT order_id::text, sum(CASE effect WHEN 'reserve' THEN quantity ELSE -quantity END)::bigint AS held
            FROM stock_movements WHERE order_id IS NOT NULL GROUP BY 1""",
        "effects": """
            SELECT order_id::text, effect || ' ' || sku AS effect, count(*) AS times
            FROM stock_movements WHERE order_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1""",
    },
    "payment": {
        "accounts": """
            SELECT a.customer_id, a.balance_cents,
                   coalesce(sum(CASE e.effect WHEN 'capture' THEN -e.amount_cents ELSE e.amount_cents END), 0)::bigint
                   AS ledger_cents
            FROM accounts a LEFT JOIN ledger_entries e USING (customer_id) GROUP BY a.customer_id""",
        "money": """
            SELECT order_id::text,
                   coalesce(sum(amount_cents) FILTER (WHERE effect = 'capture'), 0)::bigint AS captured,
                   coalesce(sum(amount_cents) FILTER (WHERE effect = 'refund'), 0)::bigint AS refunded
            FROM ledger_entries WHERE order_id IS NOT NULL GROUP BY 1""",
        "effects": """
            SELECT order_id::text, effect, count(*) AS times
            FROM ledger_entries WHERE order_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1""",
    },
    "shipping": {
        "shipments": "SELECT order_id::text, status FROM shipments",
        "effects": """
            SELECT order_id::text, effect, count(*) AS times FROM carrier_bookings GROUP BY 1, 2 HAVING count(*) > 1""",
    },
}
OUTBOX = "SELECT id::text, aggregateid::text AS order_id, type FROM outbox"
SLOT = "SELECT active FROM pg_replication_slots WHERE slot_name = 'outbox'"
PARKED = """
    SELECT parking_id, state, key AS order_id, headers ->> 'ce_type' AS type, headers ->> 'ce_id' AS event_id
    FROM parked_records ORDER BY parking_id"""
INBOX = "SELECT event_id::text, count(*) AS times FROM inbox GROUP BY 1"


@dataclass(frozen=True)
class Evidence:
    """The data that the referee evaluates.

    Attributes
    ----------
    tables : dict
        Rows by service and query.
    outbox : dict
        Outbox rows by service: ``id``, ``order_id``, ``type``.
    inbox : dict
        Number of inbox rows per event id, by service.
    parked : dict
        Parked records by service: ``parking_id``, ``state``, ``order_id``, ``type``, ``event_id``.
    relay_reads : dict
        Whether Debezium reads a service's replication slot now.
    records : Counter
        Number of records in Kafka per event id.
    lag : dict
        Records not consumed yet, by consumer group.
    """

    tables: dict[str, dict[str, list[Row]]]
    outbox: dict[str, list[Row]]
    inbox: dict[str, dict[str, int]]
    parked: dict[str, list[Row]]
    relay_reads: dict[str, bool]
    records: Counter[str] = field(default_factory=Counter)
    lag: dict[str, int] = field(default_factory=dict)

    def rows(self, service: str, query: str) -> list[Row]:
        """Return the rows of one query."""
        return self.tables[service][query]

    def is_relayed(self, service: str) -> bool:
        """Return whether every row of a service's outbox is in Kafka."""
        return all(self.records[row["id"]] for row in self.outbox[service])

    @property
    def held(self) -> dict[str, list[str]]:
        """The dead letters (such as ``payment-12``) that block an order, by order."""
        held: dict[str, list[str]] = {}
        for service, rows in self.parked.items():
            for row in rows:
                if row["state"] == "dead" and row["order_id"]:
                    held.setdefault(row["order_id"], []).append(f"{service}-{row['parking_id']}")
        return held

    @property
    def is_retrying(self) -> bool:
        """Whether a parked record will progress by itself: it is being retried, or no dead letter blocks its order."""
        for rows in self.parked.values():
            dead = {row["order_id"] for row in rows if row["state"] == "dead"}
            if any(row["state"] != "dead" and row["order_id"] not in dead for row in rows):
                return True
        return False

    @property
    def movement(self) -> tuple[object, ...]:
        """A value that differs between two collections if anything changed in between."""
        statuses = tuple(sorted((row["order_id"], row["status"]) for row in self.rows("order", "orders")))
        sizes = tuple((name, len(rows), sum(self.inbox[name].values())) for name, rows in self.outbox.items())
        parked = tuple((name, row["parking_id"], row["state"]) for name, rows in self.parked.items() for row in rows)
        return statuses, sizes, parked, sum(self.records.values())


def collect(where: Endpoints) -> Evidence:
    """Collect the evidence once.

    Raises
    ------
    NotRunning
        A database or the broker can't be reached, so the invariants can't be evaluated.
    """
    services = list(QUERIES)
    try:
        with ThreadPoolExecutor(len(services)) as pool:
            looks = pool.map(lambda s: _read_database(where.databases[s], s), services)
            seen = dict(zip(services, looks, strict=True))
        # Read the topics after the databases, so that Kafka can only be ahead of the outboxes.
        records, lag = _read_topics(where.kafka, services)
    except (psycopg.Error, KafkaException) as error:
        raise NotRunning(
            f"The referee can't read every database and topic: {error}",
            next_step="run `lab status` to see which component is down",
        ) from error
    return Evidence(
        tables={name: look.tables for name, look in seen.items()},
        outbox={name: look.outbox for name, look in seen.items()},
        inbox={name: look.inbox for name, look in seen.items()},
        parked={name: look.parked for name, look in seen.items()},
        relay_reads={name: look.relay_reads for name, look in seen.items()},
        records=records,
        lag=lag,
    )


@contextmanager
def _snapshot(url: str) -> Iterator[psycopg.Connection[Row]]:
    with psycopg.connect(url, connect_timeout=3, row_factory=dict_row) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL statement_timeout = '30s'")
        yield connection


@dataclass(frozen=True)
class _DatabaseRows:
    """The evidence of one database, read in one snapshot."""

    tables: dict[str, list[Row]]
    outbox: list[Row]
    inbox: dict[str, int]
    parked: list[Row]
    relay_reads: bool


def _read_database(url: str, service: str) -> _DatabaseRows:
    with _snapshot(url) as connection:
        slot = connection.execute(SLOT).fetchone()
        return _DatabaseRows(
            tables={name: connection.execute(query).fetchall() for name, query in QUERIES[service].items()},
            outbox=connection.execute(OUTBOX).fetchall(),
            inbox={row["event_id"]: row["times"] for row in connection.execute(INBOX)},
            parked=connection.execute(PARKED).fetchall(),
            relay_reads=bool(slot and slot["active"]),
        )


def _read_topics(kafka: str, services: list[str]) -> tuple[Counter[str], dict[str, int]]:
    topics = [events_topic(service) for service in services]
    records = Counter(
        r.headers.get("ce_id") or "" for r in broker.read_all(kafka, topics) if r.type != probe_event.TYPE
    )
    ends = broker.end_offsets(kafka, broker.partitions(kafka, topics))
    lag = {}
    for service in services:
        committed = broker.committed_offsets(kafka, service)
        others = {place: end for place, end in ends.items() if place[0] != events_topic(service)}
        lag[service] = sum(end - min(committed.get(place, 0), end) for place, end in others.items())
    return records, lag
