"""Returns, step 3: refund and restock a return, and undo both, for events that arrive in any order and repeatedly."""

import os
import uuid
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    MetaData,
    Row,
    Table,
    Text,
    Uuid,
    create_engine,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB, insert

engine = create_engine(os.environ["DATABASE_URL"])
metadata = MetaData()


def create_tables() -> None:
    """Create the tables that do not exist yet.

    charges: order_id, captured_cents. ledger: entry_id, return_id, order_id, effect, amount. outbox: id, aggregatetype,
    aggregateid, type, payload. And those that you need besides.
    """
    raise NotImplementedError


def handle(event: dict[str, Any]) -> None:
    """Handle one event in one transaction.

    Each event has an id, a type, a return_id and an order_id; RefundRequested has amount_cents, RestockRequested a
    sku and a quantity.
    """
    raise NotImplementedError
