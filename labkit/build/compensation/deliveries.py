"""Events that a judge delivers to the learner's handlers, and what the handlers must do and did."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from labkit.build.instances.instance import InstanceAnswer, TwoInstances

REFUND, RESTOCK, BOOKED = "RefundRequested", "RestockRequested", "CourierBooked"
CANCEL, COURIER_FAILED = "ReturnCancelled", "CourierFailed"
ERRORS = (CANCEL, COURIER_FAILED)
CAPTURED_CENTS, REFUND_CENTS, QUANTITY = 5000, 2000, 3


@dataclass(frozen=True)
class ServiceStep:
    """A step of the saga in this service, with its effects and events."""

    asked: str
    effect: str
    amount: int
    done: str
    failed: str
    undone: str


STEPS = (
    ServiceStep(REFUND, "refund", REFUND_CENTS, "MoneyRefunded", "RefundFailed", "RefundReversed"),
    ServiceStep(RESTOCK, "restock", QUANTITY, "GoodsRestocked", "RestockFailed", "RestockReversed"),
)


@dataclass
class Seen:
    """What the service did for a return: ledger rows and events, and the errors of its handlers."""

    ledger: Counter[tuple[str, int]] = field(default_factory=Counter)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def part(self, step: ServiceStep | None) -> Seen:
        """Return what belongs to one step, or (None) to the courier."""
        effects = {step.effect, f"{step.effect}_undone"} if step else set()
        types = {step.done, step.failed, step.undone} if step else {"CourierReleased"}
        ledger = Counter({row: count for row, count in self.ledger.items() if row[0] in effects})
        events = Counter({one: count for one, count in self.events.items() if one[0] in types})
        return Seen(ledger, events)

    def __str__(self) -> str:
        rows = [f"{count} × {effect} {amount}" for (effect, amount), count in sorted(self.ledger.items())]
        events = [
            f"{count} × {event_type}{f' ({reason})' if reason else ''}"
            for (event_type, reason), count in sorted(self.events.items())
        ]
        errors = "".join(f"; {name} {error}" for name, error in self.errors)
        return f"ledger: {', '.join(rows) or 'no row'}; events: {', '.join(events) or 'none'}{errors}"


def expected(names: Sequence[str]) -> Seen:
    """Return what the service must do for events that arrive in this order."""
    seen = Seen()
    error_at = min((names.index(error) for error in ERRORS if error in names), default=len(names))
    for step in STEPS:
        if step.asked not in names:
            continue
        if names.index(step.asked) > error_at:
            seen.events[step.failed, "return_cancelled"] += 1
            continue
        seen.ledger[step.effect, step.amount] += 1
        seen.events[step.done, ""] += 1
        if error_at < len(names):
            seen.ledger[f"{step.effect}_undone", step.amount] += 1
            seen.events[step.undone, ""] += 1
    if BOOKED in names and error_at < len(names):
        seen.events["CourierReleased", ""] += 1
    return seen


class Deliveries:
    """Delivers events to the learner's handlers, and reads what they did.

    Parameters
    ----------
    services : TwoInstances
        Two instances of the learner's service.
    """

    def __init__(self, services: TwoInstances) -> None:
        self.services = services
        self._numbers = itertools.count(1)

    def new_order(self, captured: int | None = CAPTURED_CENTS) -> str:
        """Create an order with its charge (None: without) and return its id."""
        order = f"order-{next(self._numbers)}"
        if captured is not None:
            with self.services.engine.begin() as db:
                db.execute(
                    text("INSERT INTO charges (order_id, captured_cents) VALUES (:o, :c)"), {"o": order, "c": captured}
                )
        return order

    def events(self, names: Sequence[str], order: str, cents: int = REFUND_CENTS) -> list[dict[str, Any]]:
        """Return events of a new return of an order; the same name is the same event."""
        number = next(self._numbers)
        more: dict[str, dict[str, Any]] = {
            REFUND: {"amount_cents": cents},
            RESTOCK: {"sku": "earl-grey", "quantity": QUANTITY},
        }
        base = {"return_id": f"return-{number}", "order_id": order}
        return [{"id": f"event-{number}-{name}", "type": name, **base, **more.get(name, {})} for name in names]

    def deliver(self, events: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
        """Deliver events one after the other, and return the errors of the handlers."""
        return errors_of((event["type"], self.services.first.call("handle", event)) for event in events)

    def series(self, names: Sequence[str]) -> Seen:
        """Deliver events of a new return in this order, and return what the service did."""
        events = self.events(names, self.new_order())
        errors = self.deliver(events)
        return self.seen(events[0]["return_id"], errors)

    def pairs(self, before: Sequence[str], one: str, other: str) -> Iterator[Seen]:
        """For each point of the first call, deliver events of a new return, and then two more at the same time.

        The second call runs while the first one waits at the point.
        """
        points = ["commit:1"]
        while points:
            events = self.events([*before, one, other], self.new_order())
            errors = self.deliver(events[:-2])
            answers = self.services.at_once(("handle", events[-2]), ("handle", events[-1]), point := points.pop(0))
            errors += errors_of(zip((one, other), answers, strict=True))
            yield self.seen(events[0]["return_id"], errors)
            if point == "commit:1":
                points = [more for more in answers[0].points if more not in ("begin:1", "commit:1")]

    def seen(self, return_id: str, errors: Sequence[tuple[str, str]] = ()) -> Seen:
        """Return what the service did for a return."""
        with self.services.engine.connect() as db:
            rows = db.execute(text("SELECT effect, amount FROM ledger WHERE return_id = :r"), {"r": return_id}).all()
            outbox = "SELECT type, payload->>'reason' FROM outbox WHERE payload->>'return_id' = :r"
            events = db.execute(text(outbox), {"r": return_id}).all()
        return Seen(
            Counter((str(effect), int(amount)) for effect, amount in rows),
            Counter((str(event_type), reason or "") for event_type, reason in events),
            list(errors),
        )


def errors_of(answers: Iterable[tuple[str, InstanceAnswer]]) -> list[tuple[str, str]]:
    """Return the names of the events that a handler failed on, each with the error."""
    return [(name, answer.failure) for name, answer in answers if answer.failure]
