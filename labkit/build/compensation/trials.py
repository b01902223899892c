"""The trials of step 3: every order of arrival, duplicates, two instances, and refunds that nothing covers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from sqlalchemy import Engine, inspect

from labkit.build.compensation.deliveries import (
    BOOKED,
    CANCEL,
    CAPTURED_CENTS,
    COURIER_FAILED,
    ERRORS,
    REFUND,
    REFUND_CENTS,
    RESTOCK,
    STEPS,
    Deliveries,
    Seen,
    errors_of,
    expected,
)
from labkit.build.compensation.requirements import (
    BOTH,
    CAPTURED,
    DUPLICATES,
    EARLY_ERROR,
    LATE_SUCCESS,
    MEANING,
    TWO_INSTANCES,
    UNDO,
)
from labkit.build.instances.instance import Instance, TwoInstances
from labkit.build.judging import Outcome, Requirement
from labkit.build.program import ProgramFailed
from labkit.build.workplace import Workplace
from labstack.clients import databases

COLUMNS = {
    "charges": {"order_id", "captured_cents"},
    "ledger": {"return_id", "order_id", "effect", "amount"},
    "outbox": {"id", "aggregatetype", "aggregateid", "type", "payload"},
}


def trials(place: Workplace) -> Iterator[Outcome]:
    """Run the trials of the judge, in two instances of the learner's service that share a database."""
    engine = databases.engine(place.environment["DATABASE_URL"])
    try:
        with Instance(place.file, place.environment) as first, Instance(place.file, place.environment) as second:
            create_tables(first, engine)
            deliveries = Deliveries(TwoInstances(first, second, engine))
            yield from _orders_of_arrival(deliveries)
            yield _duplicates(deliveries)
            yield _two_instances(deliveries)
            yield from _captured(deliveries)
    finally:
        engine.dispose()


def create_tables(instance: Instance, engine: Engine) -> None:
    """Let the learner's service create its tables, and check that the columns exist which the judge reads."""
    for _ in range(2):  # each start of a service creates its tables
        for name, error in errors_of([("create_tables", instance.call("create_tables", attempts=1))]):
            raise ProgramFailed(f"{name} {error}.", log=instance.log(), next_step="correct create_tables")
    there = inspect(engine)
    for table, columns in COLUMNS.items():
        found = {column["name"] for column in there.get_columns(table)} if there.has_table(table) else set()
        if missing := sorted(columns - found):
            raise ProgramFailed(
                f"create_tables made no column {', '.join(f'{table}.{column}' for column in missing)}.",
                next_step="compare your tables with those that the notebook lists",
            )


def _orders_of_arrival(deliveries: Deliveries) -> Iterator[Outcome]:
    """Deliver the events in every order, and hold each part of the result against its requirement."""
    sets = ((REFUND, RESTOCK, BOOKED), (REFUND, RESTOCK, BOOKED, CANCEL), (REFUND, RESTOCK, COURIER_FAILED, CANCEL))
    sequences = [names for one in sets for names in itertools.permutations(one)]
    broken: dict[Requirement, str] = {}
    for names in sequences:
        seen, wanted = deliveries.series(names), expected(names)
        if seen.errors:
            wrong = {_concerns(names, name) for name, _ in seen.errors}
        else:
            wrong = {_concerns(names, step.asked) for step in STEPS if seen.part(step) != wanted.part(step)}
            wrong |= {LATE_SUCCESS} if seen.part(None) != wanted.part(None) else set()
        for requirement in wrong:
            broken.setdefault(requirement, _difference(names, seen, wanted))
    for requirement in (BOTH, UNDO, EARLY_ERROR, LATE_SUCCESS):
        if requirement in broken:
            yield requirement.broken(broken[requirement], MEANING[requirement])
        else:
            yield requirement.kept(f"{len(sequences)} orders of arrival.")


def _concerns(names: Sequence[str], name: str) -> Requirement:
    """Return the requirement that is about an event in an order of arrival."""
    error_at = min((names.index(error) for error in ERRORS if error in names), default=len(names))
    if name == BOOKED:
        return LATE_SUCCESS
    if name in ERRORS:
        return UNDO if all(names.index(step.asked) < names.index(name) for step in STEPS) else EARLY_ERROR
    if error_at == len(names):
        return BOTH
    return UNDO if names.index(name) < error_at else EARLY_ERROR


def _duplicates(deliveries: Deliveries) -> Outcome:
    """Deliver each event of every order of arrival a second time, immediately and after the last one."""
    count = 0
    without_error = (REFUND, RESTOCK, BOOKED)
    for names in (without_error, *itertools.permutations((*without_error, CANCEL))):
        alone = deliveries.series(names)
        if alone != expected(names):
            continue  # broken without a duplicate
        for first, name in enumerate(names):
            for place in sorted({first + 1, len(names)}):
                doubled = (*names[:place], name, *names[place:])
                seen = deliveries.series(doubled)
                count += 1
                if seen != alone:
                    return DUPLICATES.broken(_difference(doubled, seen, alone), MEANING[DUPLICATES])
    return DUPLICATES.kept(f"{count} orders of arrival with one event twice: the same rows and events as without.")


PAIRS = (
    ((), REFUND, REFUND),
    ((), RESTOCK, RESTOCK),
    ((), REFUND, CANCEL),
    ((), CANCEL, REFUND),
    ((), RESTOCK, CANCEL),
    ((), CANCEL, RESTOCK),
    ((REFUND, RESTOCK), CANCEL, CANCEL),
    ((REFUND, RESTOCK), CANCEL, COURIER_FAILED),
    ((), BOOKED, CANCEL),
    ((), CANCEL, BOOKED),
)
"""What arrived before, and the two events that two instances handle at the same time."""


def _two_instances(deliveries: Deliveries) -> Outcome:
    for before, one, other in PAIRS:
        orders = ((*before, one, other), (*before, other, one))
        allowed = [deliveries.series(names) for names in orders]
        for seen in deliveries.pairs(before, one, other):
            if seen not in allowed:
                after = f"after {' → '.join(before)}, " if before else ""
                evidence = f"{after}{one} and {other} at the same time: {seen}. One after the other: {allowed[0]}."
                return TWO_INSTANCES.broken(evidence, MEANING[TWO_INSTANCES])
    return TWO_INSTANCES.kept(f"{len(PAIRS)} pairs of events at the same time: each as one after the other.")


def _captured(deliveries: Deliveries) -> Iterator[Outcome]:
    refused = Seen(events=Counter({("RefundFailed", "not_captured"): 1}))
    for captured, what in ((None, "an order without a charge"), (REFUND_CENTS - 1, "more than the order's charge")):
        for names in ((REFUND,), (REFUND, CANCEL)):
            events = deliveries.events(names, deliveries.new_order(captured))
            errors = deliveries.deliver(events)
            yield _compare(f"{' → '.join(names)} for {what}", deliveries.seen(events[0]["return_id"], errors), refused)
    yield _two_returns(deliveries, at_once=False)
    yield _two_returns(deliveries, at_once=True)
    order = deliveries.new_order()
    first, second = (deliveries.events([REFUND, CANCEL], order, cents) for cents in (4000, 3000))
    errors = deliveries.deliver([*first, second[0]])
    done = Seen(Counter({("refund", 3000): 1}), Counter({("MoneyRefunded", ""): 1}))
    what = "a second return after the first one's refund was undone"
    yield _compare(what, deliveries.seen(second[0]["return_id"], errors), done)
    yield CAPTURED.kept("no charge, too small a charge, two returns of one order: no refund exceeds the charge.")


def _two_returns(deliveries: Deliveries, *, at_once: bool) -> Outcome:
    """Refund two returns of one order that together exceed its charge."""
    order = deliveries.new_order()
    (one,), (other,) = (deliveries.events([REFUND], order, 3000) for _ in range(2))
    if at_once:
        answers = deliveries.services.at_once(("handle", one), ("handle", other))
        errors = errors_of((REFUND, answer) for answer in answers)
    else:
        errors = deliveries.deliver([one, other])
    both = [deliveries.seen(event["return_id"]) for event in (one, other)]
    seen = Seen(both[0].ledger + both[1].ledger, both[0].events + both[1].events, errors)
    events = Counter({("MoneyRefunded", ""): 1, ("RefundFailed", "not_captured"): 1})
    what = f"two returns of 3000 each for a charge of {CAPTURED_CENTS}{', at the same time' if at_once else ''}"
    return _compare(what, seen, Seen(Counter({("refund", 3000): 1}), events))


def _compare(what: str, seen: Seen, wanted: Seen) -> Outcome:
    if seen == wanted:
        return CAPTURED.kept(what)
    return CAPTURED.broken(f"{what}: {seen}. Expected: {wanted}.", MEANING[CAPTURED])


def _difference(names: Sequence[str], seen: Seen, wanted: Seen) -> str:
    return f"{' → '.join(names)}: {seen}. Expected: {wanted}."
