"""What becomes of an order: decided from what is known, with no database and no Kafka in sight.

The saga has three steps, taken by three services one after the other. Each service answers once: with its success or
with its failure. A success that must be undone is followed by its undo. What the order service knows about an order is
the set of the answers that have arrived, in whatever order; what follows from it is decided anew whenever one comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from labservices.shared.events import (
    Event,
    InventoryReleased,
    InventoryReservationFailed,
    InventoryReserved,
    PaymentCompleted,
    PaymentFailed,
    PaymentRefunded,
    ShipmentCancelled,
    ShipmentScheduled,
    ShippingFailed,
)


class Status(StrEnum):
    """The status of an order."""

    PENDING = "PENDING"
    RESERVED = "RESERVED"
    PAID = "PAID"
    COMPLETED = "COMPLETED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True)
class Step:
    """One step of the saga: what its service may answer, and how far a success takes the order."""

    success: type[Event]
    failure: type[Event]
    undo: type[Event]
    reaches: Status


STEPS = (
    Step(InventoryReserved, InventoryReservationFailed, InventoryReleased, Status.RESERVED),
    Step(PaymentCompleted, PaymentFailed, PaymentRefunded, Status.PAID),
    Step(ShipmentScheduled, ShippingFailed, ShipmentCancelled, Status.COMPLETED),
)


@dataclass(frozen=True)
class Answer:
    """What a service said about an order."""

    type: str
    event_id: UUID
    reason: str | None = None


@dataclass(frozen=True)
class Change:
    """The order takes another status.

    ``event_id`` is the event upon which it does; None stands for the one that is being handled.
    """

    status: Status
    reason: str | None = None
    event_id: UUID | None = None


def effect_of(event: type[Event]) -> str:
    """Name what an event does to an order; the same effect is taken once only, whatever event brings it.

    A step's success and its failure are the same effect, since a step is answered once.
    """
    for step in STEPS:
        if event in (step.success, step.failure):
            return f"{step.success.topic.removesuffix('.events')} answered"
        if event is step.undo:
            return f"{step.success.topic.removesuffix('.events')} undone"
    raise ValueError(f"{event.type()} is no answer")


def cancel(status: Status) -> bool:
    """Decide whether a customer's wish to cancel changes anything.

    Raises
    ------
    TooLate
        When the order is COMPLETED: that was the pivot, behind which nothing is undone.
    """
    if status is Status.COMPLETED:
        raise TooLate
    return status not in (Status.CANCELLING, Status.CANCELLED)


class TooLate(Exception):
    """The order can't be undone any more."""


def what_follows(status: Status, known: Mapping[str, Answer]) -> list[Change]:
    """Decide which changes an order makes now, one after the other.

    Parameters
    ----------
    status
        The order's status.
    known
        All answers that have arrived, by the event's type.
    """
    changes: list[Change] = []
    while change := _next_change(status, known):
        changes.append(change)
        status = change.status
    return changes


def _next_change(status: Status, known: Mapping[str, Answer]) -> Change | None:
    match status:
        case Status.COMPLETED | Status.CANCELLED:
            return None
        case Status.CANCELLING:
            return Change(Status.CANCELLED) if _all_is_undone(known) else None
        case _:
            return _failure(known) or _progress(status, known)


def _failure(known: Mapping[str, Answer]) -> Change | None:
    for step in STEPS:
        if failure := known.get(step.failure.type()):
            return Change(Status.CANCELLING, failure.reason, failure.event_id)
    return None


def _progress(status: Status, known: Mapping[str, Answer]) -> Change | None:
    """Take the next step if its success is known. A success that came before its predecessor waits for it here."""
    reached = [Status.PENDING, *(step.reaches for step in STEPS)].index(status)
    step = STEPS[reached]
    success = known.get(step.success.type())
    return Change(step.reaches, event_id=success.event_id) if success else None


def _all_is_undone(known: Mapping[str, Answer]) -> bool:
    """Decide whether the chain has ended, and each success in it has its undo.

    A failure ends the chain, and proves that every step before it succeeded, even if that answer has not arrived yet:
    the step would not have been asked otherwise. The last step's success ends the chain too.
    """
    succeeded: list[Step] = []
    for step in STEPS:
        if step.failure.type() in known:
            break
        succeeded.append(step)
    else:
        if STEPS[-1].success.type() not in known:
            return False
    return all(step.undo.type() in known for step in succeeded)
