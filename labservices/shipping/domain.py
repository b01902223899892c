"""What shipping does for an order: decided from what is known, with no database and no Kafka in sight."""

from dataclasses import dataclass
from enum import StrEnum

from labservices.shared.events import NO_CARRIER, ORDER_CANCELLED
from labservices.shared.steps import OutOfStep


class Status(StrEnum):
    """The status of a shipment."""

    NEW = "NEW"  # only inside the transaction that makes the row
    SCHEDULED = "SCHEDULED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    DISPATCHED = "DISPATCHED"
    TOMBSTONE = "TOMBSTONE"  # called off before it was asked for


@dataclass(frozen=True)
class Schedule:
    """A carrier will come for the goods."""

    carrier: str


@dataclass(frozen=True)
class Refuse:
    """Nothing is scheduled, for a reason."""

    reason: str


def schedule(status: Status, carrier: str | None) -> Schedule | Refuse | None:
    """Decide upon an order's wish for a shipment. None: it was answered before.

    Parameters
    ----------
    status
        The shipment's status.
    carrier
        Who serves the destination; None where nobody does.
    """
    match status:
        case Status.NEW:
            return Schedule(carrier) if carrier else Refuse(NO_CARRIER)
        case Status.TOMBSTONE:
            return Refuse(ORDER_CANCELLED)
        case _:
            return None


def undo(status: Status) -> Status | None:
    """Decide what an error event makes of a shipment. None: there is nothing to undo (any more).

    Raises
    ------
    OutOfStep
        When the shipment has left: the order was COMPLETED, and then nothing is undone.
    """
    match status:
        case Status.NEW:
            return Status.TOMBSTONE
        case Status.SCHEDULED:
            return Status.CANCELLED
        case Status.DISPATCHED:
            raise OutOfStep("an error event about an order whose shipment has left")
        case _:
            return None


def complete(status: Status) -> bool:
    """Decide whether the shipment leaves now, since the order is COMPLETED. False: it has left before.

    Raises
    ------
    OutOfStep
        When no shipment is scheduled, so that the order can't have been completed.
    """
    if status not in (Status.SCHEDULED, Status.DISPATCHED):
        raise OutOfStep(f"OrderCompleted where the shipment is {status}")
    return status is Status.SCHEDULED
