"""A snapshot for the oracle: all rows of the four databases, and all records of the broker."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text

from labservices.record import Record
from tests.services.broker import Broker
from tests.services.faults import Faults
from tests.services.world import ServiceHarness, World

Row = dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """All rows of the four databases, and all records of the broker.

    Attributes
    ----------
    tables
        The rows by service and table, in PostgreSQL's JSON form.
    records
        Every record that was written.
    arrived
        The ids of the events for each service and order, in the order of their first arrival.
    """

    tables: Mapping[str, Mapping[str, list[Row]]]
    records: list[Record] = field(default_factory=list)
    arrived: Mapping[tuple[str, UUID], list[UUID]] = field(default_factory=dict)

    def rows(self, service: str, table: str) -> list[Row]:
        """Return the rows of one table."""
        return self.tables[service][table]

    @property
    def orders(self) -> list[Row]:
        """The orders."""
        return self.rows("order", "orders")

    @property
    def parked(self) -> list[Row]:
        """The parked records of all services."""
        return [row for service in self.tables for row in self.rows(service, "parked_records")]

    def by_order(self, service: str, table: str) -> dict[str, list[Row]]:
        """Return the rows of one table that belong to an order, grouped by order."""
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows(service, table):
            found[row["aggregateid" if table == "outbox" else "order_id"]].append(row)
        return found

    def net_captures(self) -> dict[str, int]:
        """Return the captured and not refunded amount of each order, in cents."""
        net_captures: Counter[str] = Counter()
        for entry in self.rows("payment", "ledger_entries"):
            net_captures[entry["order_id"]] += {"capture": 1, "refund": -1}.get(entry["effect"], 0) * entry[
                "amount_cents"
            ]
        return net_captures

    def held_goods(self) -> dict[str, int]:
        """Return the quantity of goods held for each order: reserved, and neither released nor shipped."""
        held_goods: Counter[str] = Counter()
        for movement in self.rows("inventory", "stock_movements"):
            held_goods[movement["order_id"]] += {"reserve": 1}.get(movement["effect"], -1) * movement["quantity"]
        return held_goods

    def active_shipments(self) -> set[str]:
        """Return the ids of the orders whose shipment is scheduled or dispatched."""
        rows = self.rows("shipping", "shipments")
        return {row["order_id"] for row in rows if row["status"] in ("SCHEDULED", "DISPATCHED")}


def read_snapshot(world: World) -> Snapshot:
    """Read all rows of the four databases."""
    return Snapshot({name: _read(harness) for name, harness in world.harnesses.items()})


class SnapshotReader:
    """Reads the rows, and reads a database again only after it has committed a transaction."""

    def __init__(self, world: World, faults: Faults, broker: Broker) -> None:
        self._world = world
        self._faults = faults
        self._broker = broker
        self._tables: dict[str, dict[str, list[Row]]] = {}
        self._read_at: dict[str, int] = {}

    def snapshot(self) -> Snapshot:
        """Return the current snapshot."""
        for name, harness in self._world.harnesses.items():
            commits = self._faults.commits[name]
            if self._read_at.get(name) != commits:
                self._read_at[name] = commits
                self._tables[name] = _read(harness)
        return Snapshot(dict(self._tables), self._broker.records, self._broker.arrived)


def _read(harness: ServiceHarness) -> dict[str, list[Row]]:
    """Read all tables of a database in one statement, and so in one snapshot."""
    parts = (f"'{table}', (SELECT json_agg(it) FROM {table} it)" for table in harness.service.tables.tables)
    with harness.runtime.database.engine.connect() as connection:
        found = connection.execute(text(f"SELECT json_build_object({', '.join(parts)})::text")).scalar_one()
    return {table: rows or [] for table, rows in orjson.loads(found).items()}
