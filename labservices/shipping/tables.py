"""The tables of the shipping service."""

from sqlalchemy import CheckConstraint, Column, DateTime, Index, MetaData, Table, Text, Uuid
from sqlalchemy import func as sql

from labservices.messaging.inbox import inbox_table
from labservices.messaging.outbox import outbox_table
from labservices.messaging.parking import parked_table
from labservices.shipping.domain import Status
from labservices.storage.steps import one_of

metadata = MetaData()
outbox = outbox_table(metadata, "shipping")
inbox = inbox_table(metadata)
parked_records = parked_table(metadata)

# The carrier of each destination. No carrier serves a destination whose carrier is NULL.
destinations = Table(
    "destinations",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("carrier", Text),
)

# One row per order of which shipping has received an event.
shipments = Table(
    "shipments",
    metadata,
    Column("shipment_id", Uuid, primary_key=True),
    Column("order_id", Uuid, nullable=False, unique=True),
    Column("destination", Text, nullable=False),
    Column("carrier", Text),
    Column("status", Text, one_of("status", Status), nullable=False),
    Column("failure_reason", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=sql.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=sql.now()),
    Index("shipments_by_status", "status", "shipment_id"),
)

# The bookings with carriers. Rows are only added. An order has each effect once, whatever event requests it.
carrier_bookings = Table(
    "carrier_bookings",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("effect", Text, CheckConstraint("effect IN ('schedule', 'cancel', 'dispatch')"), primary_key=True),
    Column("shipment_id", Uuid, nullable=False),
    Column("carrier", Text, nullable=False),
    Column("event_id", Uuid, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=sql.clock_timestamp()),
)
