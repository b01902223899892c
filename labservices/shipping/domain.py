"""The decisions of the shipping service, as pure functions without a database and without Kafka."""

from dataclasses import dataclass
from enum import StrEnum

from labservices.events import NO_CARRIER, ORDER_CANCELLED
from labservices.storage.steps import ContradictingEvent


class Status(StrEnum):
    """The status of a shipment."""

    NEW = "NEW"  # only inside the transaction that inserts the row
    SCHEDULED = "SCHEDULED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    DISPATCHED = "DISPATCHED"
    TOMBSTONE = "TOMBSTONE"  # cancelled before it was requested


@dataclass(frozen=True)
class Schedule:
    """Schedule the shipment with a carrier."""

    carrier: str


@dataclass(frozen=True)
class Refuse:
    """Do not schedule the shipment, for a reason."""

    reason: str


def schedule(status: Status, carrier: str | None) -> Schedule | Refuse | None:
    """Decide whether to schedule an order's shipment; return None if this was decided before.

    Parameters
    ----------
    status
        The shipment's status.
    carrier
        The carrier that serves the destination; None if no carrier does.
    """
    match status:
        case Status.NEW:
            return Schedule(carrier) if carrier else Refuse(NO_CARRIER)
        case Status.TOMBSTONE:
            return Refuse(ORDER_CANCELLED)
        case _:
            return None


def undo(status: Status) -> Status | None:
    """Return the shipment's new status after an error event, or None if there is nothing left to undo.

    Raises
    ------
    ContradictingEvent
        If the shipment has left: the order is COMPLETED, after which nothing is undone.
    """
    match status:
        case Status.NEW:
            return Status.TOMBSTONE
        case Status.SCHEDULED:
            return Status.CANCELLED
        case Status.DISPATCHED:
            raise ContradictingEvent("received an error event for an order whose shipment has left")
        case _:
            return None


def complete(status: Status) -> bool:
    """Report whether the shipment leaves now that the order is COMPLETED; return False if it has already left.

    Raises
    ------
    ContradictingEvent
        If no shipment is scheduled, so that the order can't have been completed.
    """
    if status not in (Status.SCHEDULED, Status.DISPATCHED):
        raise ContradictingEvent(f"received OrderCompleted for an order whose shipment is {status}")
    return status is Status.SCHEDULED
