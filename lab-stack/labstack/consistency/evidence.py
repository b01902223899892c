"""The evidence of the referee: all rows of the databases, each read in one snapshot, and all records of the topics.

The queries select whole tables, without a condition or an aggregate, so that they can hide nothing. `facts` arranges
what they return.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg
from confluent_kafka import KafkaException
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads
from psycopg.types.string import TextLoader

from labservices.contract import COMMON_TABLES, SERVICES, TABLES, consumed_topics, dead_letter_topic, events_topic
from labstack.backends.base import Endpoints
from labstack.clients import broker, consumer_groups, databases, probe_event
from labstack.clients.broker import Record
from labstack.errors import NotRunning

Row = dict[str, Any]
Place = tuple[str, int]
"""A topic and a partition."""

TIMES = {"at", "updated_at", "handled_at", "parked_at", "due_at", "wal_position"}
"""Columns that no other evidence can confirm: each has the time, or the log position, of a single write."""
SLOT = "SELECT active FROM pg_replication_slots WHERE slot_name = 'outbox'"


@dataclass(frozen=True)
class Evidence:
    """The data that the referee evaluates.

    Attributes
    ----------
    tables : dict
        Rows by service and table, with the columns of `labservices.contract.TABLES` except `TIMES`, and except
        ``created_at`` in every table but the outbox.
    relay_reads : dict
        Whether Debezium reads a service's replication slot now.
    records : list
        The records of the event topics, without probe events.
    letters : list
        The records of the dead-letter topics.
    ends : dict
        Offset of the next record, by topic and partition of the event topics.
    committed : dict
        Offsets that a service's consumer group has committed, by topic and partition.
    """

    tables: Mapping[str, Mapping[str, list[Row]]]
    relay_reads: dict[str, bool]
    records: list[Record] = field(default_factory=list)
    letters: list[Record] = field(default_factory=list)
    ends: dict[Place, int] = field(default_factory=dict)
    committed: dict[str, dict[Place, int]] = field(default_factory=dict)

    def rows(self, service: str, table: str) -> list[Row]:
        """Return the rows of one table."""
        return self.tables[service][table]

    def is_relayed(self, service: str) -> bool:
        """Return whether every row of a service's outbox is in Kafka."""
        return {row["id"] for row in self.rows(service, "outbox")} <= {r.headers.get("ce_id") for r in self.records}

    @property
    def lag(self) -> dict[str, int]:
        """Number of records that each service has not consumed yet, in the topics that it consumes."""
        return {
            service: sum(
                end - min(committed.get(place, 0), end)
                for place, end in self.ends.items()
                if place[0] in consumed_topics(service)
            )
            for service, committed in self.committed.items()
        }

    @property
    def held(self) -> dict[str, list[str]]:
        """The dead letters (such as ``payment-12``) that block an order, by order."""
        held: dict[str, list[str]] = {}
        for service in self.tables:
            for row in self.rows(service, "parked_records"):
                if row["state"] == "dead" and row["key"]:
                    held.setdefault(row["key"], []).append(f"{service}-{row['parking_id']}")
        return held

    @property
    def is_retrying(self) -> bool:
        """Whether a parked record will progress by itself: it is being retried, or no dead letter blocks its order."""
        for service in self.tables:
            rows = self.rows(service, "parked_records")
            dead = {row["key"] for row in rows if row["state"] == "dead"}
            if any(row["state"] != "dead" and row["key"] not in dead for row in rows):
                return True
        return False

    @property
    def movement(self) -> tuple[object, ...]:
        """A value that differs between two collections if orders, parked records or the numbers of rows changed."""
        statuses = sorted((row["order_id"], row["status"]) for row in self.rows("order", "orders"))
        sizes = [
            (service, table, len(rows)) for service, tables in self.tables.items() for table, rows in tables.items()
        ]
        parked = [
            (service, row["parking_id"], row["state"])
            for service in self.tables
            for row in self.rows(service, "parked_records")
        ]
        return statuses, sizes, parked, len(self.records)


def collect(where: Endpoints) -> Evidence:
    """Collect the evidence once.

    Raises
    ------
    NotRunning
        A database or the broker can't be reached, so the invariants can't be evaluated.
    """
    try:
        with ThreadPoolExecutor(len(SERVICES)) as pool:
            looks = pool.map(lambda s: read_database(where.databases[s], s), SERVICES)
            seen = dict(zip(SERVICES, looks, strict=True))
        # Read the topics after the databases, so that Kafka can only be ahead of the outboxes.
        topics = [events_topic(service) for service in SERVICES]
        records = broker.read_all(where.kafka, topics)
        letters = broker.read_all(where.kafka, [dead_letter_topic(service) for service in SERVICES])
        ends = broker.end_offsets(where.kafka, broker.partitions(where.kafka, topics))
        committed = {service: consumer_groups.committed_offsets(where.kafka, service) for service in SERVICES}
    except (psycopg.Error, KafkaException) as error:
        raise NotRunning(
            f"The referee can't read every database and topic: {error}",
            next_step="run `lab status` to see which component is down",
        ) from error
    return Evidence(
        tables={service: tables for service, (tables, _) in seen.items()},
        relay_reads={service: reads for service, (_, reads) in seen.items()},
        records=[record for record in records if record.type != probe_event.TYPE],
        letters=letters,
        ends=ends,
        committed=committed,
    )


def read_database(url: str, service: str) -> tuple[dict[str, list[Row]], bool]:
    """Return the rows of a service's tables, in one snapshot, and whether Debezium reads its slot."""
    with connect(url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL statement_timeout = '30s'")
        slot = connection.execute(SLOT).fetchone()
        return read_tables(connection, service), bool(slot and slot["active"])


@contextmanager
def connect(url: str) -> Iterator[psycopg.Connection[Row]]:
    """Yield a connection that returns each row as a dictionary, with UUIDs as text, as they are in records."""
    with databases.connect(url, timeout=3, row_factory=dict_row) as connection:
        connection.adapters.register_loader("uuid", TextLoader)
        set_json_loads(orjson.loads, connection)
        yield connection


def read_tables(connection: psycopg.Connection[Row], service: str) -> dict[str, list[Row]]:
    """Return the rows of a service's tables as the connection's transaction sees them."""
    tables = TABLES.get(service, COMMON_TABLES)
    return {table: connection.execute(_query_table(table, columns)).fetchall() for table, columns in tables.items()}


def _query_table(table: str, columns: tuple[str, ...]) -> sql.Composed:
    """Return the query for all rows of a table, in the order of the first column."""
    # The outbox row's time is in the header of its record.
    wanted = [name for name in columns if name not in TIMES and (name != "created_at" or table == "outbox")]
    return sql.SQL("SELECT {} FROM {} ORDER BY 1").format(
        sql.SQL(", ").join(map(sql.Identifier, wanted)), sql.Identifier(table)
    )
