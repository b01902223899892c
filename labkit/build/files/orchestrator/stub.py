"""Returns, step 5: an orchestrator leads the saga, with commands, replies, time-outs and a stored state."""

import os
import uuid
from typing import Any

from sqlalchemy import Column, Connection, Float, MetaData, Row, Table, Text, Uuid, create_engine, select
from sqlalchemy.dialects.postgresql import JSONB, insert

TIMEOUT = 30.0  # seconds for each command
STEPS = (  # name, participant, command, command that undoes it, fields of the request that the command needs
    ("restock", "warehouse", "RestockGoods", "UndoRestock", ("sku", "quantity")),
    ("refund", "payment", "RefundMoney", "UndoRefund", ("order_id", "amount_cents")),
    ("courier", "courier", "BookCourier", "CancelCourier", ("order_id",)),
)

engine = create_engine(os.environ["DATABASE_URL"])
metadata = MetaData()


def create_tables() -> None:
    """Create the tables that do not exist yet: outbox, and those that you need besides."""
    raise NotImplementedError


def start_return(request: dict[str, Any], now: float) -> None:
    """Start the saga of a return, and send its first command.

    The request has a return_id, an order_id, a sku, a quantity and amount_cents; now is in seconds since 1970.
    """
    raise NotImplementedError


def on_reply(reply: dict[str, Any], now: float) -> None:
    """Apply the reply to the command that the saga waits for; ignore any other reply.

    A reply has a command_id, a return_id, an outcome ("done" or "failed") and a reason.
    """
    raise NotImplementedError


def on_time(now: float) -> None:
    """Time out each command whose reply is overdue. It is called every second, in each instance."""
    raise NotImplementedError


def view(return_id: str) -> dict[str, Any] | None:
    """Return the state of a return: status, waiting_for, done, failure_reason."""
    raise NotImplementedError
