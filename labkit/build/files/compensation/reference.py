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

charges = Table(
    "charges",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("captured_cents", BigInteger, nullable=False),
)
returns = Table(  # one row for each return: its lock, and the answer of each step
    "returns",
    metadata,
    Column("return_id", Text, primary_key=True),
    Column("cancelled", Boolean, nullable=False, server_default="false"),
    Column("refund", Text),
    Column("restock", Text),
    Column("courier", Text),
)
ledger = Table(  # rows are added, never changed
    "ledger",
    metadata,
    Column("entry_id", Uuid, primary_key=True, default=uuid.uuid4),
    Column("return_id", Text, nullable=False),
    Column("order_id", Text, nullable=False),
    Column("effect", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
)
outbox = Table(
    "outbox",
    metadata,
    Column("id", Uuid, primary_key=True, default=uuid.uuid4),
    Column("aggregatetype", Text, nullable=False),
    Column("aggregateid", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
)


def create_tables() -> None:
    """Create the tables."""
    metadata.create_all(engine)


def handle(event: dict[str, Any]) -> None:
    """Handle one event in one transaction."""
    with engine.begin() as db:
        row = lock(db, event["return_id"])
        match event["type"]:
            case "RefundRequested":
                on_refund_requested(db, row, event)
            case "RestockRequested":
                on_restock_requested(db, row, event)
            case "CourierBooked":
                on_courier_booked(db, row, event)
            case "ReturnCancelled" | "CourierFailed":
                on_error(db, row, event)


def lock(db: Connection, return_id: str) -> Row[Any]:
    """Insert the return's row if it is missing, lock it, and only then read it."""
    db.execute(insert(returns).values(return_id=return_id).on_conflict_do_nothing())
    return db.execute(select(returns).where(returns.c.return_id == return_id).with_for_update()).one()


def on_refund_requested(db: Connection, row: Row[Any], event: dict[str, Any]) -> None:
    """Refund the money, or answer why not."""
    if row.refund is not None:
        return
    if row.cancelled:
        move(db, row, refund="FAILED")
        publish(db, event, "RefundFailed", reason="return_cancelled")
    elif event["amount_cents"] > refundable(db, event["order_id"]):
        move(db, row, refund="FAILED")
        publish(db, event, "RefundFailed", reason="not_captured")
    else:
        move(db, row, refund="DONE")
        append(db, event, "refund", event["amount_cents"])
        publish(db, event, "MoneyRefunded", amount_cents=event["amount_cents"])


def on_restock_requested(db: Connection, row: Row[Any], event: dict[str, Any]) -> None:
    """Put the goods back on sale, or answer why not."""
    if row.restock is not None:
        return
    if row.cancelled:
        move(db, row, restock="FAILED")
        publish(db, event, "RestockFailed", reason="return_cancelled")
    else:
        move(db, row, restock="DONE")
        append(db, event, "restock", event["quantity"])
        publish(db, event, "GoodsRestocked", quantity=event["quantity"])


def on_courier_booked(db: Connection, row: Row[Any], event: dict[str, Any]) -> None:
    """Keep the booking, or release it at once if the return is cancelled."""
    if row.courier is not None:
        return
    if row.cancelled:
        release_courier(db, row, event)
    else:
        move(db, row, courier="BOOKED")


def on_error(db: Connection, row: Row[Any], event: dict[str, Any]) -> None:
    """Mark the return as cancelled, and undo what was done before."""
    if row.cancelled:
        return
    move(db, row, cancelled=True)
    if row.refund == "DONE":
        undo(db, row, event, "refund", "RefundReversed")
    if row.restock == "DONE":
        undo(db, row, event, "restock", "RestockReversed")
    if row.courier == "BOOKED":
        release_courier(db, row, event)


def undo(db: Connection, row: Row[Any], event: dict[str, Any], step: str, event_type: str) -> None:
    """Add the opposite of a step's ledger row."""
    done = db.execute(select(ledger).where(ledger.c.return_id == row.return_id, ledger.c.effect == step)).one()
    move(db, row, **{step: "UNDONE"})
    append(db, event, f"{step}_undone", done.amount)
    publish(db, event, event_type)


def release_courier(db: Connection, row: Row[Any], event: dict[str, Any]) -> None:
    """Ask the courier to cancel the booking."""
    move(db, row, courier="RELEASED")
    publish(db, event, "CourierReleased")


def refundable(db: Connection, order_id: str) -> int:
    """Lock the order's charge, and return what remains of it after the refunds of all its returns."""
    captured = db.execute(select(charges).where(charges.c.order_id == order_id).with_for_update()).one_or_none()
    if captured is None:
        return 0
    entries = select(ledger.c.effect, func.sum(ledger.c.amount)).where(ledger.c.order_id == order_id)
    sums = {effect: int(amount) for effect, amount in db.execute(entries.group_by(ledger.c.effect))}
    return int(captured.captured_cents) - sums.get("refund", 0) + sums.get("refund_undone", 0)


def move(db: Connection, row: Row[Any], **columns: Any) -> None:
    """Change the return's row."""
    db.execute(returns.update().where(returns.c.return_id == row.return_id).values(**columns))


def append(db: Connection, cause: dict[str, Any], effect: str, amount: int) -> None:
    """Add a row to the ledger."""
    ids = {"return_id": cause["return_id"], "order_id": cause["order_id"]}
    db.execute(ledger.insert().values(**ids, effect=effect, amount=amount))


def publish(db: Connection, cause: dict[str, Any], event_type: str, **payload: Any) -> None:
    """Append an event to the outbox."""
    payload = {"return_id": cause["return_id"], "order_id": cause["order_id"], **payload}
    values = {"aggregatetype": "returns", "aggregateid": cause["order_id"], "type": event_type, "payload": payload}
    db.execute(outbox.insert().values(**values))
