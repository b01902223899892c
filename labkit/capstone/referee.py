"""The capstone's referee: checks a loyalty service by its database, its topic and its metrics, not by its code.

The service only has to use the expected names: a table ``points`` with a row for each booking, records
``PointsAwarded`` and ``PointsTakenBack`` in ``loyalty.events``, and the metric ``loyalty_points``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import pandas as pd

from labkit.capstone.loyalty import NAME
from labkit.errors import ShopAway, WaitedTooLong
from labkit.inspect.look import Look
from labkit.waiting import wait_until
from labstack import Lab
from labstack.clients import broker

TOPIC = f"{NAME}.events"
HEARS = "payment.events"
METRIC = "loyalty_points"
SAYS = {True: "PointsAwarded", False: "PointsTakenBack"}
PATIENCE = 30.0
FRESH = 5.0
"""Seconds within which a metric has to match the database."""

PAID = """
    SELECT order_id::text, coalesce(sum(amount_cents) FILTER (WHERE effect = 'capture'), 0)::int AS captured,
           coalesce(sum(amount_cents) FILTER (WHERE effect = 'refund'), 0)::int AS refunded
    FROM ledger_entries WHERE order_id IS NOT NULL GROUP BY order_id
"""
TRACES = "SELECT aggregateid::text, split_part(traceparent, '-', 2) FROM outbox WHERE type = 'OrderCreated'"


@dataclass(frozen=True)
class Rule:
    """The result of one rule.

    Attributes
    ----------
    name : str
        The rule's name.
    holds : bool
        Whether the rule holds.
    says : str
        What was seen.
    """

    name: str
    holds: bool
    says: str


@dataclass
class Seen:
    """The state of some orders, read from databases and topics.

    Attributes
    ----------
    captured, refunded : dict
        Cents that payment has captured and refunded, by order.
    bookings : dict
        The points of each of loyalty's rows, by order.
    said : dict
        The types of loyalty's events, by order.
    traceparents : dict
        The traceparent of each of loyalty's events, by order.
    traces : dict
        The trace in which each order started.
    total : int
        The sum of all points, of these orders and others.
    """

    captured: dict[str, int]
    refunded: dict[str, int]
    bookings: dict[str, list[int]]
    said: dict[str, Counter[str]]
    traceparents: dict[str, list[str]]
    traces: dict[str, str]
    total: int
    names: dict[str, str] = field(default_factory=dict)

    def named(self, order_ids: Iterable[str]) -> str:
        """Return the short names of at most three orders."""
        listed = sorted(self.names.get(one, one) for one in order_ids)
        return ", ".join([*listed[:3], *(["…"] if len(listed) > 3 else [])])


def settle(lab: Lab, look: Look, orders: Collection[str], timeout: float = PATIENCE) -> None:
    """Wait until all services, including loyalty, have handled all events of some orders and its outbox is relayed.

    Raises
    ------
    WaitedTooLong
        Loyalty has not read all events, or the relay has not published all rows, in time.
    """
    look.wait_for_rest(list(orders), timeout=timeout)
    kafka = lab.endpoints.kafka

    def has_read() -> bool:
        which = broker.partitions(kafka, [HEARS])
        ends, starts = broker.end_offsets(kafka, which), broker.start_offsets(kafka, which)
        done = broker.committed_offsets(kafka, NAME)
        return all(done.get(place, starts[place]) >= end for place, end in ends.items())

    try:
        wait_until(has_read, timeout, what=f"{NAME} to handle every event of {HEARS}", interval=0.1)
    except WaitedTooLong:
        raise WaitedTooLong(
            f"{NAME} does not get through {HEARS}.", next_step="loyalty.log() shows what it stumbles over"
        ) from None

    def is_relayed() -> bool:
        with look.connect(NAME) as db:
            rows = {row[0] for row in db.execute("SELECT id::text FROM outbox")}
        return rows <= {view.record.headers.get("ce_id") for view in look.records(topic=TOPIC)}

    wait_until(is_relayed, timeout, what=f"the rows of {NAME}'s outbox to be in {TOPIC}", interval=0.1)


def collect(look: Look, orders: Collection[str]) -> Seen:
    """Read the state of these orders."""
    with look.connect("payment") as db:
        paid = [row for row in db.execute(PAID) if row[0] in orders]
    with look.connect("order") as db:
        traces = {row[0]: row[1] for row in db.execute(TRACES)}
    bookings: dict[str, list[int]] = {one: [] for one in orders}
    with look.connect(NAME) as db:
        rows = db.execute("SELECT order_id::text, points FROM points ORDER BY booking_id").fetchall()
    for order, points in rows:
        bookings.get(order, []).append(points)
    said: dict[str, Counter[str]] = {one: Counter() for one in orders}
    traceparents: dict[str, list[str]] = {one: [] for one in orders}
    # The relay may publish a row twice; it still counts as one event.
    events = {view.record.headers.get("ce_id"): view.record for view in look.records(topic=TOPIC)}
    for record in events.values():
        if record.key in said:
            said[record.key][record.type] += 1
            traceparents[record.key].append(record.headers.get("traceparent") or "")
    return Seen(
        {order: captured for order, captured, _ in paid},
        {order: refunded for order, _, refunded in paid},
        bookings,
        said,
        traceparents,
        traces,
        sum(points for _, points in rows),
        {one: look.aliases.name(one, "order") for one in orders},
    )


def paid_once(seen: Seen) -> Rule:
    """Check that each paid order has its points exactly once; whether they were taken back is another rule."""
    wanted = {order: cents // 100 for order, cents in seen.captured.items() if cents}
    awards = {order: [points for points in seen.bookings[order] if points > 0] for order in wanted}
    missing = [order for order in wanted if not awards[order]]
    twice = [order for order in wanted if len(awards[order]) > 1]
    other = [order for order in wanted if awards[order] not in ([], [wanted[order]]) and order not in twice]
    says = "a point for each euro, once"
    if missing:
        says = f"paid, and no points: {seen.named(missing)}"
    if other:
        says = f"another number of points than of euros: {seen.named(other)}"
    if twice:
        says = f"points more than once: {seen.named(twice)}"
    return Rule("paid once, points once", not (missing or twice or other), says)


def none_kept(seen: Seen) -> Rule:
    """Check that a refunded order keeps no points, and that an unpaid order has none."""
    free = [order for order in seen.bookings if seen.captured.get(order, 0) == seen.refunded.get(order, 0)]
    kept = [order for order in free if sum(seen.bookings[order]) > 0]
    too_much = [order for order in free if sum(seen.bookings[order]) < 0]
    says = "what was refunded, or never paid, has no points"
    if kept:
        says = f"not paid, or refunded, and points all the same: {seen.named(kept)}"
    if too_much:
        says = f"more points taken back than were given: {seen.named(too_much)}"
    return Rule("no points for refunds", not (kept or too_much), says)


def each_said(seen: Seen) -> Rule:
    """Check that each booking has its event in the topic, and each event its booking."""
    silent, invented = [], []
    for order, bookings in seen.bookings.items():
        booked = Counter(SAYS[points > 0] for points in bookings)
        if booked - seen.said[order]:
            silent.append(order)
        if seen.said[order] - booked:
            invented.append(order)
    says = f"each booking has its event in {TOPIC}"
    if invented:
        says = f"an event without its booking: {seen.named(invented)}"
    if silent:
        says = f"a booking without its event: {seen.named(silent)}"
    return Rule("each booking is said", not (silent or invented), says)


def one_trace(seen: Seen) -> Rule:
    """Check that each event belongs to the trace of its order."""
    none, other = [], []
    for order, traceparents in seen.traceparents.items():
        ids = {one.split("-")[1] if one.count("-") == 3 else "" for one in traceparents}
        if "" in ids:
            none.append(order)
        elif ids - {seen.traces.get(order, "")}:
            other.append(order)
    says = "each event belongs to its order's trace"
    if other:
        says = f"in another trace than their order: {seen.named(other)}"
    if none:
        says = f"an event without a traceparent: {seen.named(none)}"
    return Rule("one order, one trace", not (none or other), says)


def metric_is_true(look: Look, seen: Seen) -> Rule:
    """Check that the metric matches the database."""
    try:
        told = wait_until(lambda: look.metric(NAME, METRIC) == seen.total, FRESH)
    except ShopAway:
        return Rule("the metric is true", False, f"{NAME} shows no metrics: does it run?")
    except WaitedTooLong:
        told = False
    says = f"{METRIC} is the sum of all points"
    if not told:
        says = f"{METRIC} is {look.metric(NAME, METRIC)}, the sum of all points {seen.total}"
    return Rule("the metric is true", told, says)


def judge(look: Look, orders: Collection[str]) -> list[Rule]:
    """Check loyalty's result for some orders, when no event is in flight."""
    seen = collect(look, orders)
    return [paid_once(seen), none_kept(seen), each_said(seen), one_trace(seen), metric_is_true(look, seen)]


def referee(lab: Lab, look: Look) -> pd.DataFrame:
    """Check loyalty's result for every order, and return the rules as a table."""
    with look.connect("order") as db:
        orders = [row[0] for row in db.execute("SELECT order_id::text FROM orders")]
    settle(lab, look, orders)
    rules = judge(look, orders)
    return pd.DataFrame([(rule.name, rule.holds, rule.says) for rule in rules], columns=["rule", "holds", "seen"])
