"""The order service's tables."""

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Index, Integer, MetaData, Table, Text, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB

from labservices.messaging.inbox import inbox_table
from labservices.messaging.outbox import outbox_table
from labservices.messaging.parking import parked_table
from labservices.order.domain import Status
from labservices.storage.steps import one_of

metadata = MetaData()
outbox = outbox_table(metadata, "order")
inbox = inbox_table(metadata)
parked_records = parked_table(metadata)

# The service's own copy of the catalogue, so that it sets an order's price without querying another service.
catalogue = Table(
    "catalogue",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("unit_price_cents", BigInteger, CheckConstraint("unit_price_cents >= 0"), nullable=False),
    Column("currency", Text, nullable=False),
)

# One row per order. The lines never change and are only read as a whole, so they are stored as one value.
orders = Table(
    "orders",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("items", JSONB, nullable=False),
    Column("total_cents", BigInteger, CheckConstraint("total_cents >= 0"), nullable=False),
    Column("currency", Text, nullable=False),
    Column("status", Text, one_of("status", Status), nullable=False),
    Column("failure_reason", Text),
    Column("version", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("orders_by_status", "status", "order_id"),
    Index("orders_by_customer", "customer_id", "order_id"),
)

# Every status that an order has had. Rows are only added.
order_history = Table(
    "order_history",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("status", Text, one_of("status", Status), nullable=False),
    Column("reason", Text),
    Column("event_id", Uuid, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
)

# The answers of the other services about an order: each answers once, and undoes once. Rows are only added.
order_answers = Table(
    "order_answers",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("effect", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("reason", Text),
    Column("event_id", Uuid, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
)

# The order and the request for each idempotency key of a client.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("request", JSONB, nullable=False),
    Column("order_id", Uuid, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
