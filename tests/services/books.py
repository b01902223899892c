"""A snapshot for the oracle: all rows of the four databases, and all records of the broker."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text

from labservices.messaging.record import Record
from tests.services.broker import Broker
from tests.services.faults import Faults
from tests.services.world import Party, World

Row = dict[str, Any]


@dataclass(frozen=True)
class Books:
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

    def kept(self) -> dict[str, int]:
        """Return the captured and not refunded amount of each order, in cents."""
        kept: Counter[str] = Counter()
        for entry in self.rows("payment", "ledger_entries"):
            kept[entry["order_id"]] += {"capture": 1, "refund": -1}.get(entry["effect"], 0) * entry["amount_cents"]
        return kept

    def held(self) -> dict[str, int]:
        """Return the quantity of goods held for each order: reserved, and neither released nor shipped."""
        held: Counter[str] = Counter()
        for movement in self.rows("inventory", "stock_movements"):
            held[movement["order_id"]] += {"reserve": 1}.get(movement["effect"], -1) * movement["quantity"]
        return held

    def alive(self) -> set[str]:
        """Return the ids of the orders whose shipment is scheduled or dispatched."""
        rows = self.rows("shipping", "shipments")
        return {row["order_id"] for row in rows if row["status"] in ("SCHEDULED", "DISPATCHED")}


def read_all(world: World) -> Books:
    """Read all rows of the four databases."""
    return Books({name: _read(party) for name, party in world.parties.items()})


class Bookkeeper:
    """Reads the rows, and reads a database again only after it has committed a transaction."""

    def __init__(self, world: World, faults: Faults, broker: Broker) -> None:
        self._world = world
        self._faults = faults
        self._broker = broker
        self._tables: dict[str, dict[str, list[Row]]] = {}
        self._read_at: dict[str, int] = {}

    def books(self) -> Books:
        """Return the current books."""
        for name, party in self._world.parties.items():
            commits = self._faults.commits[name]
            if self._read_at.get(name) != commits:
                self._read_at[name] = commits
                self._tables[name] = _read(party)
        return Books(dict(self._tables), self._broker.records, self._broker.arrived)


def _read(party: Party) -> dict[str, list[Row]]:
    """Read all tables of a database in one statement, and so in one snapshot."""
    parts = (f"'{table}', (SELECT json_agg(it) FROM {table} it)" for table in party.service.tables.tables)
    with party.runtime.database.engine.connect() as connection:
        found = connection.execute(text(f"SELECT json_build_object({', '.join(parts)})::text")).scalar_one()
    return {table: rows or [] for table, rows in orjson.loads(found).items()}
