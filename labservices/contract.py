"""The contract of the services, for other programs: names, topics, events and tables.

The lab and the notebooks import this module, `labservices.settings`, `labservices.datasets` and `labservices.origins`,
and nothing else of the services. It is light: it imports neither SQLAlchemy nor FastAPI; only a call of `acts_on`
imports the handlers.
``tests/services/test_contract.py`` compares it with the code of the services.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

SERVICES = ("order", "inventory", "payment", "shipping")
"""The services in the order of the saga. A service's consumer group and its database have its name."""


def events_topic(service: str) -> str:
    """Return the topic to which a service publishes its events."""
    return f"{service}.events"


def dead_letter_topic(service: str) -> str:
    """Return the topic to which a service publishes the records that it dead-letters."""
    return f"{service}.dlq"


PUBLISHES: Mapping[str, tuple[str, ...]] = {
    "order": ("OrderCreated", "OrderCompleted", "OrderCancelled", "OrderCancelRequested", "OrderTimedOut"),
    "inventory": ("InventoryReserved", "InventoryReservationFailed", "InventoryReleased"),
    "payment": ("PaymentCompleted", "PaymentFailed", "PaymentRefunded"),
    "shipping": ("ShipmentScheduled", "ShippingFailed", "ShipmentCancelled"),
}
"""The event types that each service publishes."""

CANCELLATIONS = frozenset({"OrderCancelRequested", "OrderTimedOut"})
"""The events with which the order service cancels an order."""

OUTCOMES = frozenset({"OrderCompleted", "OrderCancelled"})
"""The events that end a saga."""


@cache
def acts_on(service: str) -> frozenset[str]:
    """Return the event types that a service acts on, as its handlers define them; it ignores all others."""
    handlers = import_module(f"labservices.{service}.handlers").HANDLERS
    return frozenset(event.__name__ for event in handlers)


@cache
def consumed_topics(service: str) -> frozenset[str]:
    """Return the topics whose events a service acts on."""
    return frozenset(events_topic(writer) for writer, events in PUBLISHES.items() if acts_on(service) & {*events})


class Step(NamedTuple):
    """One step of the saga, as a service's events and tables show it.

    Attributes
    ----------
    service
        The service that executes the step.
    command
        The event that requests the step.
    success, failure, undo
        The events that the service publishes.
    reaches
        The status of the order after the success.
    table, key
        The table with one row per order, and the column of the row's ID, which is also a field of the events.
    effects
        The table of the step's effects.
    taken, undone, completed
        The statuses of the row after the success, after the undo, and after the order's completion. A refused step is
        FAILED; a step that is cancelled and was never requested is a TOMBSTONE.
    take, revert, complete
        The effects of the success, of the undo, and of the order's completion, if it has one.
    """

    service: str
    command: str
    success: str
    failure: str
    undo: str
    reaches: str
    table: str
    key: str
    effects: str
    taken: str
    undone: str
    completed: str
    take: str
    revert: str
    complete: str | None


STEPS = (
    Step(
        service="inventory",
        command="OrderCreated",
        success="InventoryReserved",
        failure="InventoryReservationFailed",
        undo="InventoryReleased",
        reaches="RESERVED",
        table="reservations",
        key="reservation_id",
        effects="stock_movements",
        taken="RESERVED",
        undone="RELEASED",
        completed="SHIPPED",
        take="reserve",
        revert="release",
        complete="ship",
    ),
    Step(
        service="payment",
        command="InventoryReserved",
        success="PaymentCompleted",
        failure="PaymentFailed",
        undo="PaymentRefunded",
        reaches="PAID",
        table="payments",
        key="payment_id",
        effects="ledger_entries",
        taken="COMPLETED",
        undone="REFUNDED",
        completed="COMPLETED",
        take="capture",
        revert="refund",
        complete=None,
    ),
    Step(
        service="shipping",
        command="PaymentCompleted",
        success="ShipmentScheduled",
        failure="ShippingFailed",
        undo="ShipmentCancelled",
        reaches="COMPLETED",
        table="shipments",
        key="shipment_id",
        effects="carrier_bookings",
        taken="SCHEDULED",
        undone="CANCELLED",
        completed="DISPATCHED",
        take="schedule",
        revert="cancel",
        complete="dispatch",
    ),
)
"""The steps of the saga in their order."""

CONNECTION: Mapping[str, Any] = {
    "sslmode": "disable",
    "gssencmode": "disable",
    "channel_binding": "prefer",
    "target_session_attrs": "any",
    "client_encoding": "UTF8",
}
"""The libpq parameters of every connection to a database. They are explicit, so that the user's environment variables,
Kerberos tickets and certificates have no effect."""

TERMINAL = ("COMPLETED", "CANCELLED")
"""The final statuses of an order."""

MAX_RECORD_BYTES = 1024 * 1024
"""Maximum size of an event in bytes. The broker has about the same limit, but it checks the compressed size, so a
record can be far larger when it is decompressed."""

MAX_ATTEMPTS = 5
"""The number of attempts before a record is dead-lettered."""

RETRY_FIRST, RETRY_MAX = 0.2, 5.0
"""Seconds until the first retry, and the maximum, both before a jitter of ±50 %; the delay doubles each time."""

OUTBOX: Mapping[str, str] = {
    "id": "uuid",
    "aggregatetype": "text",
    "aggregateid": "uuid",
    "type": "text",
    "payload": "jsonb",
    "specversion": "text",
    "dataschema": "text",
    "source": "text",
    "traceparent": "text",
    "causation_id": "uuid",
    "created_at": "timestamptz",
    "wal_position": "pg_lsn",
}
"""The columns of every service's outbox table, with their types in PostgreSQL."""

COMMON_TABLES: Mapping[str, tuple[str, ...]] = {
    "outbox": tuple(OUTBOX),
    "inbox": ("consumer", "event_id", "topic", "partition", "offset", "type", "handled_at"),
    "parked_records": (
        *("parking_id", "state", "topic", "partition", "offset", "key", "value", "headers"),
        *("attempts", "permanent", "error", "parked_at", "due_at"),
    ),
}
"""The tables of every service, with their columns."""

TABLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "order": {
        **COMMON_TABLES,
        "catalogue": ("sku", "name", "unit_price_cents", "currency"),
        "orders": (
            *("order_id", "customer_id", "destination", "items", "total_cents", "currency"),
            *("status", "failure_reason", "version", "created_at", "updated_at"),
        ),
        "order_history": ("order_id", "version", "status", "reason", "event_id", "at"),
        "order_answers": ("order_id", "effect", "type", "reason", "event_id", "at"),
        "idempotency_keys": ("key", "request", "order_id", "created_at"),
    },
    "inventory": {
        **COMMON_TABLES,
        "products": ("sku", "name", "unit_price_cents", "currency", "on_hand", "reserved", "shipped"),
        "reservations": (
            *("reservation_id", "order_id", "status", "failure_reason", "lines", "created_at", "updated_at"),
        ),
        "stock_movements": ("movement_id", "effect", "sku", "quantity", "order_id", "event_id", "at"),
    },
    "payment": {
        **COMMON_TABLES,
        "accounts": ("customer_id", "name", "balance_cents", "currency"),
        "payments": (
            *("payment_id", "order_id", "customer_id", "amount_cents", "currency"),
            *("status", "failure_reason", "created_at", "updated_at"),
        ),
        "ledger_entries": (
            *("entry_id", "effect", "customer_id", "amount_cents", "order_id", "payment_id", "event_id", "at"),
        ),
    },
    "shipping": {
        **COMMON_TABLES,
        "destinations": ("destination", "name", "carrier"),
        "shipments": (
            *("shipment_id", "order_id", "destination", "carrier"),
            *("status", "failure_reason", "created_at", "updated_at"),
        ),
        "carrier_bookings": ("order_id", "effect", "shipment_id", "carrier", "event_id", "at"),
    },
}
"""The columns of each service's tables, in the order of the tables' definitions."""
