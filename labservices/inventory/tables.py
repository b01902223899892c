"""The tables of the inventory service."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy import func as sql
from sqlalchemy.dialects.postgresql import JSONB

from labservices.inventory.domain import Status
from labservices.messaging.inbox import inbox_table
from labservices.messaging.outbox import outbox_table
from labservices.messaging.parking import parked_table
from labservices.storage.steps import one_of

metadata = MetaData()
outbox = outbox_table(metadata, "inventory")
inbox = inbox_table(metadata)
parked_records = parked_table(metadata)

# The stock of each product, and the quantity that is reserved for orders.
products = Table(
    "products",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("unit_price_cents", BigInteger, CheckConstraint("unit_price_cents >= 0"), nullable=False),
    Column("currency", Text, nullable=False),
    Column("on_hand", BigInteger, nullable=False),
    Column("reserved", BigInteger, CheckConstraint("reserved BETWEEN 0 AND on_hand"), nullable=False, default=0),
    Column("shipped", BigInteger, CheckConstraint("shipped >= 0"), nullable=False, default=0),
)

# One row per order of which inventory has received an event.
reservations = Table(
    "reservations",
    metadata,
    Column("reservation_id", Uuid, primary_key=True),
    Column("order_id", Uuid, nullable=False, unique=True),
    Column("status", Text, one_of("status", Status), nullable=False),
    Column("failure_reason", Text),
    Column("lines", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=sql.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=sql.now()),
    Index("reservations_by_status", "status", "reservation_id"),
)

# Every movement of stock. Rows are only added. An order has each effect on a product once, whatever event requests it.
stock_movements = Table(
    "stock_movements",
    metadata,
    Column("movement_id", Uuid, primary_key=True),
    Column(
        "effect",
        Text,
        CheckConstraint("effect IN ('opening', 'restock', 'reserve', 'release', 'ship')"),
        nullable=False,
    ),
    Column("sku", Text, nullable=False),
    Column("quantity", BigInteger, CheckConstraint("quantity >= 0"), nullable=False),
    Column("order_id", Uuid, CheckConstraint("(order_id IS NULL) = (effect IN ('opening', 'restock'))")),
    Column("event_id", Uuid),
    Column("at", DateTime(timezone=True), nullable=False, server_default=sql.clock_timestamp()),
    UniqueConstraint("order_id", "effect", "sku"),
)
