"""The state machine of an order: pure decisions, without a database and without Kafka.

The saga has three steps, which three services execute one after the other. Each service answers once, with a success or
a failure. If a success must be undone, its service then reports the undo. The order service keeps the set of answers
that have arrived, in any order, and derives the next status changes from this set whenever an answer arrives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from labservices.events import (
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
class OrderStep:
    """One step of the saga: the possible answers of its service, and the order's status after a success."""

    success: type[Event]
    failure: type[Event]
    undo: type[Event]
    reaches: Status


STEPS = (
    OrderStep(InventoryReserved, InventoryReservationFailed, InventoryReleased, Status.RESERVED),
    OrderStep(PaymentCompleted, PaymentFailed, PaymentRefunded, Status.PAID),
    OrderStep(ShipmentScheduled, ShippingFailed, ShipmentCancelled, Status.COMPLETED),
)


@dataclass(frozen=True)
class Answer:
    """The answer of a service about an order."""

    type: str
    event_id: UUID
    reason: str | None = None


@dataclass(frozen=True)
class Change:
    """A status change of an order.

    ``event_id`` is the event that causes the change; None stands for the event that is being handled.
    """

    status: Status
    reason: str | None = None
    event_id: UUID | None = None


def effect_of(event: type[Event]) -> str:
    """Return the name of an event's effect on an order; each effect is recorded only once, whatever event has it.

    A step's success and failure have the same effect, since a step is answered once.
    """
    for step in STEPS:
        if event in (step.success, step.failure):
            return f"{step.success.topic.removesuffix('.events')} answered"
        if event is step.undo:
            return f"{step.success.topic.removesuffix('.events')} undone"
    raise ValueError(f"{event.type()} is not an answer of a step")


def cancel(status: Status) -> bool:
    """Report whether a customer's cancellation changes the order.

    Raises
    ------
    TooLate
        If the order is COMPLETED: this is the pivot, after which nothing is undone.
    """
    if status is Status.COMPLETED:
        raise TooLate
    return status not in (Status.CANCELLING, Status.CANCELLED)


class TooLate(Exception):
    """The order can no longer be undone."""


def transitions(status: Status, known: Mapping[str, Answer]) -> list[Change]:
    """Return the status changes that follow from the known answers, in their order.

    Parameters
    ----------
    status
        The order's status.
    known
        All answers that have arrived, by event type.
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
            return Change(Status.CANCELLED) if _all_undone(known) else None
        case _:
            return _failure(known) or _progress(status, known)


def _failure(known: Mapping[str, Answer]) -> Change | None:
    for step in STEPS:
        if failure := known.get(step.failure.type()):
            return Change(Status.CANCELLING, failure.reason, failure.event_id)
    return None


def _progress(status: Status, known: Mapping[str, Answer]) -> Change | None:
    """Return the next change if its step succeeded. A success that arrives early is used after its predecessor."""
    reached = [Status.PENDING, *(step.reaches for step in STEPS)].index(status)
    step = STEPS[reached]
    success = known.get(step.success.type())
    return Change(step.reaches, event_id=success.event_id) if success else None


def _all_undone(known: Mapping[str, Answer]) -> bool:
    """Report whether the chain of steps has ended and each success in it is undone.

    A failure ends the chain. It also proves that every step before it succeeded, even if that answer has not arrived
    yet, since the failed step would not have been requested otherwise. The last step's success ends the chain too.
    """
    succeeded: list[OrderStep] = []
    for step in STEPS:
        if step.failure.type() in known:
            break
        succeeded.append(step)
    else:
        if STEPS[-1].success.type() not in known:
            return False
    return all(step.undo.type() in known for step in succeeded)
