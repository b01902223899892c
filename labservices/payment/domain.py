"""What payment does for an order: decided from what is known, with no database and no Kafka in sight."""

from dataclasses import dataclass
from enum import StrEnum

from labservices.shared.events import INSUFFICIENT_FUNDS, ORDER_CANCELLED, UNKNOWN_CUSTOMER


class Status(StrEnum):
    """The status of a payment."""

    NEW = "NEW"  # only inside the transaction that makes the row
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    REFUNDED = "REFUNDED"
    TOMBSTONE = "TOMBSTONE"  # called off before it was asked for


@dataclass(frozen=True)
class Capture:
    """The money is taken from the customer's account."""


@dataclass(frozen=True)
class Refuse:
    """The money is not taken, for a reason."""

    reason: str


def pay(status: Status, balance_cents: int | None, amount_cents: int) -> Capture | Refuse | None:
    """Decide upon an order's wish for money. None: it was answered before.

    Parameters
    ----------
    status
        The payment's status.
    balance_cents
        What the customer's account holds; None where there is no such account.
    amount_cents
        What the order costs.
    """
    match status:
        case Status.NEW:
            if balance_cents is None:
                return Refuse(UNKNOWN_CUSTOMER)
            return Capture() if amount_cents <= balance_cents else Refuse(INSUFFICIENT_FUNDS)
        case Status.TOMBSTONE:
            return Refuse(ORDER_CANCELLED)
        case _:
            return None


def undo(status: Status) -> Status | None:
    """Decide what an error event makes of a payment. None: there is nothing to undo (any more)."""
    match status:
        case Status.NEW:
            return Status.TOMBSTONE
        case Status.COMPLETED:
            return Status.REFUNDED
        case _:
            return None
