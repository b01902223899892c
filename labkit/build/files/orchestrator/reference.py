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
NAMES = [step[0] for step in STEPS]

engine = create_engine(os.environ["DATABASE_URL"])
metadata = MetaData()
sagas = Table(
    "sagas",
    metadata,
    Column("return_id", Text, primary_key=True),
    Column("request", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("stack", JSONB, nullable=False),  # the steps whose effect must be assumed, the newest last
    Column("waiting_for", Text),  # the id of the command without a reply
    Column("due", Float),  # when its reply is overdue, in seconds since 1970
    Column("failure_reason", Text),
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
    """Create the tables that do not exist yet."""
    metadata.create_all(engine)


def start_return(request: dict[str, Any], now: float) -> None:
    """Start the saga of a return, and send its first command."""
    saga = {"return_id": request["return_id"], "request": request, "status": "RUNNING", "stack": []}
    with engine.begin() as db:
        new = db.execute(insert(sagas).values(**saga).on_conflict_do_nothing().returning(sagas)).one_or_none()
        if new is not None:
            go_forward(db, new, [], now)


def on_reply(reply: dict[str, Any], now: float) -> None:
    """Apply the reply to the command that the saga waits for; ignore any other reply."""
    with engine.begin() as db:
        saga = db.execute(select(sagas).where(sagas.c.return_id == reply["return_id"]).with_for_update()).one_or_none()
        if saga is None or saga.waiting_for != reply["command_id"]:
            return
        if saga.status == "COMPENSATING":
            go_back(db, saga, saga.stack[:-1], now)
        elif reply["outcome"] == "done":
            go_forward(db, saga, saga.stack, now)
        else:
            go_back(db, saga, saga.stack[:-1], now, failure_reason=reply["reason"])


def on_time(now: float) -> None:
    """Time out each command whose reply is overdue."""
    with engine.begin() as db:
        for saga in db.execute(select(sagas).where(sagas.c.due <= now).with_for_update(skip_locked=True)).all():
            if saga.status == "RUNNING":  # the step may have been done, so it is undone, too
                go_back(db, saga, saga.stack, now, failure_reason="timeout")
            else:
                go_back(db, saga, saga.stack, now)


def view(return_id: str) -> dict[str, Any] | None:
    """Return the state of a return."""
    with engine.connect() as db:
        saga = db.execute(select(sagas).where(sagas.c.return_id == return_id)).one_or_none()
    if saga is None:
        return None
    waiting_for = saga.waiting_for and saga.waiting_for.partition("/")[2]
    return {
        "status": saga.status,
        "waiting_for": waiting_for,
        "done": saga.stack[:-1] if saga.status == "RUNNING" else saga.stack,
        "failure_reason": saga.failure_reason,
    }


def go_forward(db: Connection, saga: Row[Any], stack: list[str], now: float) -> None:
    """Send the command of the next step, or complete the saga."""
    if len(stack) == len(STEPS):
        move(db, saga, status="COMPLETED", stack=stack, waiting_for=None, due=None)
        return
    name, participant, command, _, fields = STEPS[len(stack)]
    move(db, saga, status="RUNNING", stack=[*stack, name])
    send(db, saga, participant, command, fields, now)


def go_back(db: Connection, saga: Row[Any], stack: list[str], now: float, **changes: Any) -> None:
    """Send the command that undoes the newest step, or end the saga as cancelled."""
    if not stack:
        move(db, saga, status="CANCELLED", stack=stack, waiting_for=None, due=None, **changes)
        return
    _, participant, _, command, fields = STEPS[NAMES.index(stack[-1])]
    move(db, saga, status="COMPENSATING", stack=stack, **changes)
    send(db, saga, participant, command, fields, now)


def send(db: Connection, saga: Row[Any], participant: str, command: str, fields: tuple[str, ...], now: float) -> None:
    """Append a command to the outbox, and wait for its reply. A command that is sent again has the same id."""
    command_id = f"{saga.return_id}/{command}"
    move(db, saga, waiting_for=command_id, due=now + TIMEOUT)
    payload = {"command_id": command_id, "return_id": saga.return_id, **{name: saga.request[name] for name in fields}}
    values = {"aggregatetype": participant, "aggregateid": saga.return_id, "type": command, "payload": payload}
    db.execute(outbox.insert().values(**values))


def move(db: Connection, saga: Row[Any], **changes: Any) -> None:
    """Change the saga's row."""
    db.execute(sagas.update().where(sagas.c.return_id == saga.return_id).values(**changes))
