"""The decisions of the payment service, as pure functions without a database and without Kafka."""

from dataclasses import dataclass
from enum import StrEnum

from labservices.events import INSUFFICIENT_FUNDS, ORDER_CANCELLED, UNKNOWN_CUSTOMER


class Status(StrEnum):
    """The status of a payment."""

    NEW = "NEW"  # only inside the transaction that inserts the row
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    REFUNDED = "REFUNDED"
    TOMBSTONE = "TOMBSTONE"  # cancelled before it was requested


@dataclass(frozen=True)
class Capture:
    """Capture the money from the customer's account."""


@dataclass(frozen=True)
class Refuse:
    """Do not capture the money, for a reason."""

    reason: str


def pay(status: Status, balance_cents: int | None, amount_cents: int) -> Capture | Refuse | None:
    """Decide whether to capture an order's money; return None if this was decided before.

    Parameters
    ----------
    status
        The payment's status.
    balance_cents
        The balance of the customer's account in cents; None if the account does not exist.
    amount_cents
        The total of the order in cents.
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
    """Return the payment's new status after an error event, or None if there is nothing left to undo."""
    match status:
        case Status.NEW:
            return Status.TOMBSTONE
        case Status.COMPLETED:
            return Status.REFUNDED
        case _:
            return None
