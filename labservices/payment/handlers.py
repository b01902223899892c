"""The event handlers of the payment service."""

from typing import Any

from sqlalchemy import Row, bindparam, select

from labservices.events import (
    ErrorEvent,
    Event,
    InventoryReserved,
    PaymentCompleted,
    PaymentFailed,
    PaymentRefunded,
    error_events_for,
)
from labservices.ids import uuid7
from labservices.payment import domain
from labservices.payment.domain import Capture, Refuse, Status
from labservices.payment.tables import accounts, ledger_entries, payments
from labservices.service import Handler
from labservices.storage.database import Transaction


def on_inventory_reserved(tx: Transaction, event: InventoryReserved) -> None:
    """Capture the money and publish `PaymentCompleted`, or publish `PaymentFailed` with the reason."""
    row = _payment(tx, event)
    match domain.pay(Status(row.status), _lock_balance(tx, event.customer_id), event.total_cents):
        case Capture():
            tx.move(payments, event.order_id, row.status, status=Status.COMPLETED)
            _move_money(tx, row, "capture", -row.amount_cents)
            tx.publish(PaymentCompleted.about(event, payment_id=row.payment_id, amount_cents=row.amount_cents))
        case Refuse(reason):
            tx.move(payments, event.order_id, row.status, status=Status.FAILED, failure_reason=reason)
            tx.publish(PaymentFailed.about(event, payment_id=row.payment_id, reason=reason))


def on_error(tx: Transaction, event: ErrorEvent) -> None:
    """Refund the money of a failed or cancelled order, or leave a tombstone so that none is captured later."""
    row = _payment(tx, event)
    match domain.undo(Status(row.status)):
        case Status.TOMBSTONE:
            tx.move(payments, event.order_id, row.status, status=Status.TOMBSTONE)
        case Status.REFUNDED:
            tx.move(payments, event.order_id, row.status, status=Status.REFUNDED)
            _move_money(tx, row, "refund", row.amount_cents)
            tx.publish(PaymentRefunded.about(event, payment_id=row.payment_id, amount_cents=row.amount_cents))


HANDLERS: dict[type[Event], Handler] = {
    InventoryReserved: on_inventory_reserved,
    **dict.fromkeys(error_events_for("payment"), on_error),
}


def _payment(tx: Transaction, event: Event) -> Row[Any]:
    values = {
        "payment_id": uuid7(),
        "order_id": event.order_id,
        "customer_id": event.customer_id,
        "amount_cents": event.total_cents,
        "currency": event.currency,
        "status": Status.NEW,
    }
    return tx.insert_or_lock(payments, values)


_LOCK_BALANCE = (
    select(accounts.c.balance_cents).where(accounts.c.customer_id == bindparam("customer_id")).with_for_update()
)

_ADD_ENTRY = ledger_entries.insert()

_CHANGE_BALANCE = (
    accounts.update()
    .where(accounts.c.customer_id == bindparam("whose"))
    .values(balance_cents=accounts.c.balance_cents + bindparam("change_cents"))
)


def _lock_balance(tx: Transaction, customer_id: str) -> int | None:
    return tx.execute(_LOCK_BALANCE, {"customer_id": customer_id}).scalar_one_or_none()


def _move_money(tx: Transaction, payment: Row[Any], effect: str, change_cents: int) -> None:
    """Change the account's balance, and add the matching ledger entry."""
    tx.execute(_CHANGE_BALANCE, {"whose": payment.customer_id, "change_cents": change_cents})
    tx.execute(
        _ADD_ENTRY,
        {
            "entry_id": uuid7(),
            "effect": effect,
            "customer_id": payment.customer_id,
            "amount_cents": payment.amount_cents,
            "order_id": payment.order_id,
            "payment_id": payment.payment_id,
            "event_id": tx.cause,
        },
    )
