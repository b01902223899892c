"""The decisions of the inventory service, as pure functions without a database and without Kafka."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from labservices.events import INSUFFICIENT_STOCK, ORDER_CANCELLED, Line, Shortage
from labservices.storage.steps import ContradictingEvent


class Status(StrEnum):
    """The status of a reservation."""

    NEW = "NEW"  # only inside the transaction that inserts the row
    RESERVED = "RESERVED"
    FAILED = "FAILED"
    RELEASED = "RELEASED"
    SHIPPED = "SHIPPED"
    TOMBSTONE = "TOMBSTONE"  # cancelled before it was requested


@dataclass(frozen=True)
class Reserve:
    """Reserve the goods."""


@dataclass(frozen=True)
class Refuse:
    """Do not reserve the goods, for a reason."""

    reason: str
    shortages: tuple[Shortage, ...] = ()


def quantities(lines: Iterable[Line]) -> dict[str, int]:
    """Return the total quantity of each product in the lines."""
    total: Counter[str] = Counter()
    for line in lines:
        total[line.sku] += line.quantity
    return dict(total)


def reserve(status: Status, wanted: Mapping[str, int], available: Mapping[str, int]) -> Reserve | Refuse | None:
    """Decide whether to reserve all goods of an order or none; return None if this was decided before."""
    match status:
        case Status.NEW:
            shortages = tuple(
                Shortage(sku=sku, requested=quantity, available=available.get(sku, 0))
                for sku, quantity in sorted(wanted.items())
                if quantity > available.get(sku, 0)
            )
            return Refuse(INSUFFICIENT_STOCK, shortages) if shortages else Reserve()
        case Status.TOMBSTONE:
            return Refuse(ORDER_CANCELLED)
        case _:
            return None


def undo(status: Status) -> Status | None:
    """Return the reservation's new status after an error event, or None if there is nothing left to undo.

    Raises
    ------
    ContradictingEvent
        If the goods have left: the order is COMPLETED, after which nothing is undone.
    """
    match status:
        case Status.NEW:
            return Status.TOMBSTONE
        case Status.RESERVED:
            return Status.RELEASED
        case Status.SHIPPED:
            raise ContradictingEvent("received an error event for an order whose goods have left")
        case _:
            return None


def complete(status: Status) -> bool:
    """Report whether the goods leave now that the order is COMPLETED; return False if they have already left.

    Raises
    ------
    ContradictingEvent
        If no goods are reserved, so that the order can't have been completed.
    """
    if status not in (Status.RESERVED, Status.SHIPPED):
        raise ContradictingEvent(f"received OrderCompleted for an order whose reservation is {status}")
    return status is Status.RESERVED
