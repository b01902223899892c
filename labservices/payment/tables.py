"""The tables of the payment service."""

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

from labservices.messaging.inbox import inbox_table
from labservices.messaging.outbox import outbox_table
from labservices.messaging.parking import parked_table
from labservices.payment.domain import Status
from labservices.storage.steps import one_of

metadata = MetaData()
outbox = outbox_table(metadata, "payment")
inbox = inbox_table(metadata)
parked_records = parked_table(metadata)

# The balance of each customer: the account's opening, deposit and refund entries minus its captures.
accounts = Table(
    "accounts",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("balance_cents", BigInteger, CheckConstraint("balance_cents >= 0"), nullable=False),
    Column("currency", Text, nullable=False),
)

# One row per order of which payment has received an event.
payments = Table(
    "payments",
    metadata,
    Column("payment_id", Uuid, primary_key=True),
    Column("order_id", Uuid, nullable=False, unique=True),
    Column("customer_id", Text, nullable=False),
    Column("amount_cents", BigInteger, CheckConstraint("amount_cents >= 0"), nullable=False),
    Column("currency", Text, nullable=False),
    Column("status", Text, one_of("status", Status), nullable=False),
    Column("failure_reason", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=sql.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=sql.now()),
    Index("payments_by_status", "status", "payment_id"),
)

# Every movement of money. Rows are only added: a refund is a new row and does not change the capture.
# An order has each effect once, whatever event requests it.
ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("entry_id", Uuid, primary_key=True),
    Column("effect", Text, CheckConstraint("effect IN ('opening', 'deposit', 'capture', 'refund')"), nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("amount_cents", BigInteger, CheckConstraint("amount_cents >= 0"), nullable=False),
    Column("order_id", Uuid, CheckConstraint("(order_id IS NULL) = (effect IN ('opening', 'deposit'))")),
    Column("payment_id", Uuid, CheckConstraint("(payment_id IS NULL) = (order_id IS NULL)")),
    Column("event_id", Uuid),
    Column("at", DateTime(timezone=True), nullable=False, server_default=sql.clock_timestamp()),
    UniqueConstraint("order_id", "effect"),
)
