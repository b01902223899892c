"""The event handlers of the order service: record an answer, and apply the transitions that follow from it."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, select, text

from labservices.events import Event, Line, OrderCancelled, OrderCompleted
from labservices.order.domain import STEPS, Answer, Change, Status, effect_of, transitions
from labservices.order.tables import order_answers, order_history, orders
from labservices.service import Handler
from labservices.storage.database import Transaction


class UnknownOrder(Exception):
    """An event refers to an order that this service never created."""


def on_answer(tx: Transaction, event: Event) -> None:
    """Handle the success, failure or undo that another service reports."""
    order = lock_order(tx, event.order_id)
    if order is None:
        raise UnknownOrder(event.order_id)
    if record_answer(tx, event):
        apply_transitions(tx, order)


HANDLERS: dict[type[Event], Handler] = {
    event: on_answer for step in STEPS for event in (step.success, step.failure, step.undo)
}


_LOCK = select(orders).where(orders.c.order_id == bindparam("order_id")).with_for_update()


def lock_order(tx: Transaction, order_id: UUID) -> Row[Any] | None:
    """Return the order's row, locked until the transaction ends."""
    return tx.execute(_LOCK, {"order_id": order_id}).one_or_none()


_RECORD_ANSWER = text(
    """
    INSERT INTO order_answers (order_id, effect, type, reason, event_id)
    VALUES (:order_id, :effect, :type, :reason, :event_id)
    ON CONFLICT DO NOTHING
    """
)


def record_answer(tx: Transaction, event: Event) -> bool:
    """Record an answer, whatever the order's status; return False if its effect is already recorded.

    The inbox rejects a duplicate event. This check rejects a duplicate answer that arrives with another event id.
    """
    values = {
        "order_id": event.order_id,
        "effect": effect_of(type(event)),
        "type": event.type(),
        "reason": getattr(event, "reason", None),
        "event_id": tx.cause,
    }
    return tx.execute(_RECORD_ANSWER, values).rowcount == 1


_READ_ANSWERS = select(order_answers).where(order_answers.c.order_id == bindparam("order_id"))


def apply_transitions(tx: Transaction, order: Row[Any]) -> None:
    """Apply the transitions that follow from an order's known answers, and publish the outcome if it is final."""
    answers = tx.execute(_READ_ANSWERS, {"order_id": order.order_id})
    known = {row.type: Answer(row.type, row.event_id, row.reason) for row in answers}
    changes = transitions(Status(order.status), known)
    if not changes:
        return
    change_status(tx, order, changes)
    match changes[-1].status:
        case Status.COMPLETED:
            # The cause is the last step's success, even if it arrived before the success of an earlier step.
            tx.publish(OrderCompleted(**facts(order)), cause=changes[-1].event_id)
        case Status.CANCELLED:
            reason = order.failure_reason or next(change.reason for change in changes if change.reason)
            tx.publish(OrderCancelled(**facts(order), reason=reason))


_ADD_TO_HISTORY = order_history.insert()


def change_status(tx: Transaction, order: Row[Any], changes: list[Change]) -> None:
    """Apply status changes to the order, and append each to its history."""
    failure_reason = order.failure_reason or next((change.reason for change in changes if change.reason), None)
    tx.move(
        orders,
        order.order_id,
        order.status,
        status=changes[-1].status,
        failure_reason=failure_reason,
        version=order.version + len(changes),
    )
    for number, change in enumerate(changes, start=1):
        row = {
            "order_id": order.order_id,
            "version": order.version + number,
            "status": change.status,
            "reason": failure_reason if change.status in (Status.CANCELLING, Status.CANCELLED) else None,
            "event_id": change.event_id or tx.cause,
        }
        tx.execute(_ADD_TO_HISTORY, row)


def facts(order: Row[Any]) -> dict[str, Any]:
    """Return the order's data that every event carries."""
    return {
        "order_id": order.order_id,
        "customer_id": order.customer_id,
        "destination": order.destination,
        "items": [Line(**line) for line in order.items],
        "total_cents": order.total_cents,
        "currency": order.currency,
    }
