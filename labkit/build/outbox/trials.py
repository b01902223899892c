"""The trials of the outbox: crashes, a refused transaction, the event's content, and 200 requests at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from labkit.build.judging import Outcome
from labkit.build.outbox.requirements import ADDRESSED, ATOMIC, CURRENT, ENCODED_ONCE, PARALLEL, ROLLBACK
from labkit.build.outbox.storage import FUNCTION, TOPIC, Request, payload_of, raise_errors, stored
from labkit.build.program import LearnerProcess
from labkit.build.workplace import Workplace

THREADS = 20


def trials(place: Workplace) -> Iterator[Outcome]:
    """Kill the file at every point, refuse its transaction, compare rows with events, and send 200 requests at once."""
    place.environment[TOPIC] = place.topic("events")
    raise_errors(place, "create_tables")
    first = Request.new()
    undisturbed = place.start_call(FUNCTION, first.arguments)
    undisturbed.wait()
    if undisturbed.status or undisturbed.results[0].error:
        raise undisturbed.failure(f"failed in {FUNCTION}()")
    yield _atomic(place, undisturbed, first)
    yield _rolled_back(place)
    event = next(iter(stored(place, [first.order_id])[first.order_id].events), None)
    if event is None:
        yield from (one.broken("there is no event in outbox", NO_EVENT) for one in (CURRENT, ENCODED_ONCE, ADDRESSED))
    else:
        yield _current(place, first, event)
        yield _encoded_once(event)
        yield _addressed(first, event)
    yield _parallel(place)


NO_EVENT = "The shop has stored the return, but no service gets an event: the parcel comes back, and no one refunds it."
GHOST = "The other services refund and restock a return that the shop does not have."
TWICE = "The other services get the event twice, and a customer can be refunded twice."
POINTS = {
    "after-write": "after statement {}",
    "before-commit": "before commit {}",
    "after-commit": "after commit {}",
    "before-produce": "before it produced record {}",
    "after-produce": "after it produced record {}",
    "return": "before the caller got the answer",
}
"""Where the judge kills the process, in words."""


def crash_points(program: LearnerProcess) -> dict[str, str]:
    """Return each point that a program passed and at which it can be killed, with its description."""
    counts: Counter[str] = Counter()
    found = {}
    for passage in program.journal:
        counts[passage.point] += 1
        number = counts[passage.point]
        if passage.point in POINTS:
            found[f"{passage.point}:{number}"] = POINTS[passage.point].format(number)
    return found


def _atomic(place: Workplace, undisturbed: LearnerProcess, first: Request) -> Outcome:
    """Kill the process at every point that it passes, then ask again, and compare rows with events."""
    points = crash_points(undisturbed)
    requests = {point: Request.new() for point in points}
    programs = {
        point: place.start_call(FUNCTION, request.arguments, crash=point) for point, request in requests.items()
    }
    for program in programs.values():
        program.wait()
    orders = [request.order_id for request in requests.values()]
    after_crash = stored(place, orders)
    place.call(FUNCTION, *(request.arguments for request in requests.values()))
    after_retry = stored(place, [*orders, first.order_id])
    commits = len(undisturbed.passed("after-commit"))
    facts = f"{FUNCTION}() makes {commits} commit{'s' * (commits != 1)}"
    if undisturbed.passed("after-produce"):
        facts += " and publishes to Kafka itself"
    usual = after_retry[first.order_id]
    faults = {}
    for point, request in requests.items():
        died, again = after_crash[request.order_id], after_retry[request.order_id]
        if died.counts not in ((0, 0, 0), usual.counts) or again.counts != usual.counts:
            faults[point] = f"killed {points[point]}: {died}; after the customer asked again: {again}"
    if not faults and usual.counts == (1, 1, 0):
        where = ", ".join(points.values())
        return ATOMIC.kept(f"{facts}; killed {where}: each time both rows or neither, and one of each after a retry.")
    lines = [f"{facts}; undisturbed: {usual}", *faults.values()]
    final = [usual, *(after_retry[requests[point].order_id] for point in faults)]
    if any(one.returns and not one.events for one in final):
        meaning = NO_EVENT
    elif any(not one.returns for one in final):
        meaning = GHOST
    else:
        meaning = TWICE if any(sum(one.counts[1:]) > 1 for one in final) else NO_EVENT
    return ATOMIC.broken("\n".join(lines), meaning)


REFUSE = (
    """
    CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the judge refuses this transaction'; END $$
    """,
    """
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION refuse()
    """,
)


def _rolled_back(place: Workplace) -> Outcome:
    """Refuse the transaction at its commit, once for each table."""
    faults, remains = [], []
    for table in ("returns", "outbox"):
        request = Request.new()
        place.execute(*(statement.format(table=table) for statement in REFUSE))
        (result,) = place.call(FUNCTION, request.arguments)
        place.execute(f"DROP TRIGGER refuse ON {table}")
        left = stored(place, [request.order_id])[request.order_id]
        if left.counts != (0, 0, 0):
            remains.append(left)
            faults.append(f"the database refused the row in {table} at the commit; still there: {left}")
        if not result.error:
            faults.append(f"the database refused the row in {table}, but {FUNCTION}() returned {result.value!r}")
    if not faults:
        return ROLLBACK.kept("the database refused the commit twice: no row remained, and the caller got the error.")
    if not remains:
        meaning = "The customer reads that the return is accepted, and the shop has not stored it."
    else:
        meaning = GHOST if any(not one.returns for one in remains) else NO_EVENT
    return ROLLBACK.broken("\n".join(faults), meaning)


MEANINGS = {
    "return_id": "Every later event names the return by its id; the services that got this one cannot find it.",
    "order_id": "The warehouse does not know which order the parcel belongs to.",
    "amount_cents": "The customer is refunded a wrong amount.",
    "status": "Other services see a status that the return no longer has, and act on it.",
}


def _current(place: Workplace, request: Request, event: dict[str, Any]) -> Outcome:
    """Compare the payload with the row as it was committed."""
    (row, *_) = place.rows("SELECT * FROM returns WHERE order_id::text = %s", request.order_id)
    payload, _ = payload_of(event)
    if not isinstance(payload, dict):
        return CURRENT.broken(f"the payload is {payload!r:.80}, not an object", NO_EVENT)
    faults = {}
    for name in ("return_id", "order_id", "customer_id", "amount_cents", "status", "requested_at"):
        if name not in row:
            faults[name] = f"returns has no column {name}"
        elif not _same(payload.get(name), row[name]):
            faults[name] = f"{name} is {payload.get(name)!r} in the event and {str(row[name])!r} in returns"
    if payload.get("lines") != request.lines:
        faults["lines"] = f"lines is {payload.get('lines')!r} in the event, and the customer returned {request.lines!r}"
    expected = sum(line["quantity"] * line["unit_price_cents"] for line in request.lines)
    if row.get("amount_cents") not in (None, expected):
        faults["amount_cents"] = f"amount_cents is {row['amount_cents']} in returns; the lines are worth {expected}"
    if row.get("status") not in (None, "REQUESTED"):
        faults["status"] = f"status is {row['status']!r} in returns, and must be 'REQUESTED'"
    if not faults:
        return CURRENT.kept("return_id, amount_cents, status and the others are the same in the event and in returns.")
    return CURRENT.broken("\n".join(faults.values()), MEANINGS.get(next(iter(faults)), MEANINGS["status"]))


def _same(told: Any, stored: Any) -> bool:
    if isinstance(stored, datetime):
        try:
            then = datetime.fromisoformat(str(told))
        except ValueError:
            return False
        return (then if then.tzinfo else then.replace(tzinfo=UTC)) == (
            stored if stored.tzinfo else stored.replace(tzinfo=UTC)
        )
    return told is not None and str(told) == str(stored)


def _encoded_once(event: dict[str, Any]) -> Outcome:
    payload, too_often = payload_of(event)
    if too_often == 0 and isinstance(payload, dict):
        return ENCODED_ONCE.kept(f"the payload is an object with {len(payload)} fields.")
    return ENCODED_ONCE.broken(
        f"the payload is a JSON text that contains JSON: {str(event['payload'])[:60]}…",
        "Consumers get a string where they expect an object: each return ends as a dead letter.",
    )


def _addressed(request: Request, event: dict[str, Any]) -> Outcome:
    expected = {
        "aggregateid": request.order_id,
        "aggregatetype": "returns",
        "type": "ReturnRequested",
        "traceparent": request.traceparent,
    }
    faults = {
        name: f"{name} is {str(event.get(name))!r}, and must be {value!r}"
        for name, value in expected.items()
        if str(event.get(name)) != value
    }
    faults |= {name: f"{name} is not set" for name in ("id", "created_at") if event.get(name) is None}
    if not faults:
        return ADDRESSED.kept("the key is the order's id; type, trace and time are set.")
    meaning = "A consumer that looks at the type ignores the event, and the trace of the request ends here."
    if "aggregateid" in faults:
        meaning = (
            "The events of one order go to different partitions and overtake each other: the refund before the return."
        )
    return ADDRESSED.broken("\n".join(faults.values()), meaning)


def _parallel(place: Workplace) -> Outcome:
    """Run 200 requests on 20 threads; 20 orders are requested twice at the same moment."""
    requests = [Request.new() for _ in range(180)]
    calls = [request for number, request in enumerate(requests) for _ in range(2 if number < 20 else 1)]
    results = place.call(FUNCTION, *(request.arguments for request in calls), threads=THREADS, timeout=120)
    found = stored(place, [request.order_id for request in requests])
    faults = []
    if failed := [result for result in results if result.error]:
        faults.append(f"{len(failed)} of {len(calls)} calls raised, such as {failed[0].error.splitlines()[0][:200]}")
    wrong = Counter(one.counts for one in found.values() if one.counts != (1, 1, 0))
    for (returns, events, records), number in wrong.most_common(3):
        faults.append(f"{number} orders have {returns} returns, {events} events, {records} direct records")
    ids: dict[str, set[str]] = {}
    for result in results:
        if not result.error:
            ids.setdefault(calls[result.call].order_id, set()).add(str(result.value))
    if several := sum(len(values) > 1 for values in ids.values()):
        faults.append(f"{several} of 20 orders that were requested twice got two different return_ids")
    unknown = sum(
        ids[order] != {str(row["return_id"]) for row in one.returns} for order, one in found.items() if order in ids
    )
    if unknown and not several:
        faults.append(f"{unknown} calls returned an id that is not in returns")
    if not faults:
        return PARALLEL.kept(
            f"{len(calls)} calls: 180 returns and 180 events; both callers of 20 orders got the same id."
        )
    return PARALLEL.broken(
        "\n".join(faults), "On a busy day some customers get an error, or two labels for one parcel, or no refund."
    )
