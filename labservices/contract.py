"""What other programs may rely on: the services, their topics and events, and their tables.

The lab and the notebooks import this module, `labservices.settings` and `labservices.datasets`, and nothing else of the
services. It is light: it imports neither SQLAlchemy nor FastAPI. ``tests/services/test_contract.py`` compares it with
the code of the services.
"""

from collections.abc import Mapping

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

_CANCELLATIONS = frozenset({"OrderCancelRequested", "OrderTimedOut"})
ACTS_ON: Mapping[str, frozenset[str]] = {
    "order": frozenset(PUBLISHES["inventory"] + PUBLISHES["payment"] + PUBLISHES["shipping"]),
    "inventory": _CANCELLATIONS | {"OrderCreated", "OrderCompleted", "PaymentFailed", "ShippingFailed"},
    "payment": _CANCELLATIONS | {"InventoryReserved", "InventoryReservationFailed", "ShippingFailed"},
    "shipping": _CANCELLATIONS | {"PaymentCompleted", "OrderCompleted", "InventoryReservationFailed", "PaymentFailed"},
}
"""The event types that each service acts on. It ignores all others."""

TERMINAL = ("COMPLETED", "CANCELLED")
"""The final statuses of an order."""

MAX_ATTEMPTS = 5
"""The number of attempts before a record is dead-lettered."""

RETRY_FIRST, RETRY_MAX = 0.2, 5.0
"""Seconds until the first retry, and the maximum; the delay about doubles each time."""

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

_OF_EVERY_SERVICE: Mapping[str, tuple[str, ...]] = {
    "outbox": tuple(OUTBOX),
    "inbox": ("consumer", "event_id", "topic", "partition", "offset", "type", "handled_at"),
    "parked_records": (
        *("parking_id", "state", "topic", "partition", "offset", "key", "value", "headers"),
        *("attempts", "permanent", "error", "parked_at", "due_at"),
    ),
}
TABLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "order": {
        **_OF_EVERY_SERVICE,
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
        **_OF_EVERY_SERVICE,
        "products": ("sku", "name", "unit_price_cents", "currency", "on_hand", "reserved", "shipped"),
        "reservations": (
            *("reservation_id", "order_id", "status", "failure_reason", "lines", "created_at", "updated_at"),
        ),
        "stock_movements": ("movement_id", "effect", "sku", "quantity", "order_id", "event_id", "at"),
    },
    "payment": {
        **_OF_EVERY_SERVICE,
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
        **_OF_EVERY_SERVICE,
        "destinations": ("destination", "name", "carrier"),
        "shipments": (
            *("shipment_id", "order_id", "destination", "carrier"),
            *("status", "failure_reason", "created_at", "updated_at"),
        ),
        "carrier_bookings": ("order_id", "effect", "shipment_id", "carrier", "event_id", "at"),
    },
}
"""The columns of each service's tables, in the order of the tables' definitions."""
