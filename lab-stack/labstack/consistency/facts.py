"""The evidence, arranged by order and by event, as the invariants need it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from labservices.contract import CANCELLATIONS, PUBLISHES, TERMINAL, acts_on, events_topic
from labstack.clients.broker import Record
from labstack.consistency.evidence import Evidence, Row

TOPICS = {events_topic(service): service for service in PUBLISHES}

Difference = tuple[str, str]
"""What violates an invariant (an order, a product, an account), and how."""


@dataclass(frozen=True)
class EventFacts:
    """One event: an outbox row, or a record that a service sent without its outbox (the fault switch dual-write).

    Attributes
    ----------
    is_traced : bool
        Whether the event has a trace context. A row that a person has inserted has none.
    """

    id: str
    order_id: str
    type: str
    service: str
    payload: Mapping[str, Any]
    cause: str | None
    is_traced: bool

    @property
    def reason(self) -> str | None:
        """The reason of a failure or a cancellation."""
        reason: str | None = self.payload.get("reason")
        return reason


class Facts:
    """The evidence, arranged.

    Parameters
    ----------
    seen : Evidence
        The evidence.
    """

    def __init__(self, seen: Evidence) -> None:
        self.seen = seen
        self._by_order: dict[tuple[str, str], dict[str, list[Row]]] = {}

    def rows(self, service: str, table: str) -> list[Row]:
        """Return the rows of one table."""
        return self.seen.rows(service, table)

    def by_order(self, service: str, table: str) -> Mapping[str, list[Row]]:
        """Return the rows of one table that belong to an order, by order."""
        if (service, table) not in self._by_order:
            found: dict[str, list[Row]] = defaultdict(list)
            for row in self.rows(service, table):
                if row["order_id"]:
                    found[row["order_id"]].append(row)
            self._by_order[service, table] = found
        return self._by_order[service, table]

    @cached_property
    def orders(self) -> dict[str, Row]:
        """The orders of the order service, by ID."""
        return {row["order_id"]: row for row in self.rows("order", "orders")}

    @cached_property
    def held(self) -> set[str]:
        """The orders that a dead letter holds. An order that the order service never created is not included."""
        return self.orders.keys() & self.seen.held.keys()

    @cached_property
    def ended(self) -> list[Row]:
        """The terminal orders that no dead letter holds; they no longer change."""
        return [row for row in self.orders.values() if row["status"] in TERMINAL and row["order_id"] not in self.held]

    @cached_property
    def outbox(self) -> dict[str, tuple[str, Row]]:
        """Service and row of each outbox row, by event ID."""
        return {row["id"]: (service, row) for service in self.seen.tables for row in self.rows(service, "outbox")}

    @cached_property
    def records(self) -> dict[str, list[Record]]:
        """The records of the event topics, by event ID."""
        found: dict[str, list[Record]] = defaultdict(list)
        for record in self.seen.records:
            found[record.headers.get("ce_id") or ""].append(record)
        return found

    @cached_property
    def strays(self) -> list[Record]:
        """The records of known orders and types that have no outbox row, except those that were dead-lettered."""
        dead = {letter.headers.get("ce_id") for letter in self.seen.letters}
        return [
            copies[0]
            for event_id, copies in self.records.items()
            if event_id not in self.outbox
            and event_id not in dead
            and copies[0].key in self.orders
            and copies[0].type in PUBLISHES[TOPICS[copies[0].topic]]
        ]

    @cached_property
    def events(self) -> dict[str, EventFacts]:
        """The events of types that the services publish, by ID."""
        found = {}
        for event_id, (service, row) in self.outbox.items():
            if row["type"] in PUBLISHES[service]:
                found[event_id] = EventFacts(
                    *(event_id, row["aggregateid"], row["type"], service, row["payload"], row["causation_id"]),
                    is_traced=row["traceparent"] is not None,
                )
        for record in self.strays:
            if not is_relayed(record):
                event_id, cause = record.headers["ce_id"] or "", record.headers.get("causation_id")
                values = (event_id, record.key or "", record.type, TOPICS[record.topic], payload_of(record), cause)
                found[event_id] = EventFacts(*values, is_traced="traceparent" in record.headers)
        return found

    @cached_property
    def events_of(self) -> Mapping[str, list[EventFacts]]:
        """The events of each order."""
        found: dict[str, list[EventFacts]] = defaultdict(list)
        for event in self.events.values():
            found[event.order_id].append(event)
        return found

    @cached_property
    def named(self) -> dict[str, tuple[str, str]]:
        """Order and type of every ID under which an event was ever published."""
        found = {event.id: (event.order_id, event.type) for event in self.events.values()}
        return found | {record.headers["ce_id"] or "": (record.key or "", record.type) for record in self.strays}

    def is_id_of(self, event_id: str | None, order_id: str, types: Container[str]) -> bool:
        """Return whether an ID is that of an order's event with one of these types."""
        order, kind = self.named.get(event_id or "", ("", ""))
        return order == order_id and kind in types


def is_relayed(record: Record) -> bool:
    """Return whether Debezium wrote a record: only an outbox row has the time that becomes this header."""
    return "ce_time" in record.headers


def payload_of(record: Record) -> dict[str, Any]:
    """Return a record's payload, or an empty dictionary if it is not a JSON object."""
    try:
        payload = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return {}
    return payload if isinstance(payload, dict) else {}


def quantities(lines: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return the total quantity of each product in the lines of an order."""
    total: Counter[str] = Counter()
    for line in lines:
        total[line.get("sku", "")] += line.get("quantity", 0)
    return dict(total)


def undo_causes(service: str) -> set[str]:
    """Return the event types that make a service undo its step: failures of others, and cancellations."""
    return {kind for kind in acts_on(service) if kind in CANCELLATIONS or kind.endswith("Failed")}
