"""What inventory does for an order: decided from what is known, with no database and no Kafka in sight."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from labservices.shared.events import INSUFFICIENT_STOCK, ORDER_CANCELLED, Line, Shortage
from labservices.shared.steps import OutOfStep


class Status(StrEnum):
    """The status of a reservation."""

    NEW = "NEW"  # only inside the transaction that makes the row
    RESERVED = "RESERVED"
    FAILED = "FAILED"
    RELEASED = "RELEASED"
    SHIPPED = "SHIPPED"
    TOMBSTONE = "TOMBSTONE"  # called off before it was asked for


@dataclass(frozen=True)
class Reserve:
    """The goods are set aside."""


@dataclass(frozen=True)
class Refuse:
    """The goods are not set aside, for a reason."""

    reason: str
    shortages: tuple[Shortage, ...] = ()


def quantities(lines: Iterable[Line]) -> dict[str, int]:
    """Add up the lines: how many of each product."""
    total: Counter[str] = Counter()
    for line in lines:
        total[line.sku] += line.quantity
    return dict(total)


def reserve(status: Status, wanted: Mapping[str, int], available: Mapping[str, int]) -> Reserve | Refuse | None:
    """Decide upon an order's wish for goods: all of them or none. None: it was answered before."""
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
    """Decide what an error event makes of a reservation. None: there is nothing to undo (any more).

    Raises
    ------
    OutOfStep
        When the goods have left: the order was COMPLETED, and then nothing is undone.
    """
    match status:
        case Status.NEW:
            return Status.TOMBSTONE
        case Status.RESERVED:
            return Status.RELEASED
        case Status.SHIPPED:
            raise OutOfStep("an error event about an order whose goods have left")
        case _:
            return None


def complete(status: Status) -> bool:
    """Decide whether the goods leave now, since the order is COMPLETED. False: they have left before.

    Raises
    ------
    OutOfStep
        When no goods are set aside, so that the order can't have been completed.
    """
    if status not in (Status.RESERVED, Status.SHIPPED):
        raise OutOfStep(f"OrderCompleted where the reservation is {status}")
    return status is Status.RESERVED
