"""The capstone's referee: checks a loyalty service by its database, its topic and its metrics, not by its code.

The service only has to use the expected names: a table ``points`` (order_id, points) with a row for each booking, a
table ``outbox`` (id, aggregateid), records ``PointsAwarded`` and ``PointsTakenBack`` in ``loyalty.events`` with the
headers ``ce_id``, ``ce_type`` and ``traceparent``, and the metric ``loyalty_points``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import pandas as pd

from labkit.capstone.loyalty import NAME
from labkit.errors import KitError, ShopUnavailable, WaitTimedOut
from labkit.inspect.look import Look
from labkit.waiting import wait_until
from labservices.contract import events_topic
from labstack import Lab
from labstack.arguments import checked
from labstack.clients import broker, consumer_groups

OUTPUT_TOPIC = events_topic(NAME)
INPUT_TOPIC = "payment.events"
METRIC = "loyalty_points"
PAID_ONCE = "paid once, points once"
NOT_UNPAID = "no points for refunds"
PUBLISHED = "each booking has an event"
ONE_TRACE = "one order, one trace"
METRIC_CORRECT = "the metric is correct"
RULES = (PAID_ONCE, NOT_UNPAID, PUBLISHED, ONE_TRACE, METRIC_CORRECT)
EVENT_TYPES = {True: "PointsAwarded", False: "PointsTakenBack"}
TIMEOUT = 30.0
METRIC_TIMEOUT = 5.0
"""Seconds within which a metric has to match the database."""

PAID = """
    SELECT order_id::text, coalesce(sum(amount_cents) FILTER (WHERE effect = 'capture'), 0)::int AS captured,
           coalesce(sum(amount_cents) FILTER (WHERE effect = 'refund'), 0)::int AS refunded
    FROM ledger_entries WHERE order_id IS NOT NULL GROUP BY order_id
"""
TRACES = "SELECT aggregateid::text, split_part(traceparent, '-', 2) FROM outbox WHERE type = 'OrderCreated'"


@dataclass(frozen=True)
class RuleVerdict:
    """The result of one rule.

    Attributes
    ----------
    name : str
        The rule's name.
    holds : bool
        Whether the rule holds.
    finding : str
        What was seen.
    """

    name: str
    holds: bool
    finding: str


@dataclass
class Snapshot:
    """The state of some orders, read from databases and topics.

    Attributes
    ----------
    captured, refunded : dict
        Cents that payment has captured and refunded, by order.
    bookings : dict
        The points of each of loyalty's rows, by order.
    published : dict
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
    published: dict[str, Counter[str]]
    traceparents: dict[str, list[str]]
    traces: dict[str, str]
    total: int
    names: dict[str, str] = field(default_factory=dict)

    def named(self, order_ids: Iterable[str]) -> str:
        """Return the short names of at most three orders."""
        listed = sorted(self.names.get(one, one) for one in order_ids)
        return ", ".join([*listed[:3], *(["…"] if len(listed) > 3 else [])])


def settle(lab: Lab, look: Look, orders: Collection[str], timeout: float = TIMEOUT) -> None:
    """Wait until all services, including loyalty, have handled all events of some orders and its outbox is relayed.

    Raises
    ------
    WaitTimedOut
        Loyalty has not read all events, or the relay has not published all rows, in time.
    """
    look.wait_for_rest(list(orders), timeout=timeout)
    kafka = lab.endpoints.kafka

    def has_read() -> bool:
        partitions = broker.partitions(kafka, [INPUT_TOPIC])
        ends, starts = broker.end_offsets(kafka, partitions), broker.start_offsets(kafka, partitions)
        committed = consumer_groups.committed_offsets(kafka, NAME)
        return all(committed.get(partition, starts[partition]) >= end for partition, end in ends.items())

    try:
        wait_until(has_read, timeout, what=f"{NAME} to handle every event of {INPUT_TOPIC}", interval=0.1)
    except WaitTimedOut:
        raise WaitTimedOut(
            f"{NAME} does not catch up with {INPUT_TOPIC}.", next_step="loyalty.log() shows the error"
        ) from None

    def is_relayed() -> bool:
        with look.db.connect(NAME) as db:
            rows = {row[0] for row in db.execute("SELECT id::text FROM outbox")}
        return rows <= {view.record.headers.get("ce_id") for view in look.kafka.records(topic=OUTPUT_TOPIC)}

    what = f"each id in {NAME}'s outbox to be the header ce_id of a record in {OUTPUT_TOPIC}"
    wait_until(is_relayed, timeout, what=what, interval=0.1)


def missing_part(lab: Lab, look: Look) -> str:
    """Return what a service needs and does not have, before it can be checked; an empty text if there is nothing."""
    if NAME not in lab.extensions.names:
        return f"there is no database {NAME}"
    with look.db.connect(NAME) as db:
        for table in ("points", "outbox"):
            if db.execute("SELECT to_regclass(%s) IS NULL", [table]).fetchone() == (True,):
                return f"the database {NAME} has no table {table}"
        slots = "SELECT active FROM pg_replication_slots WHERE database = %s ORDER BY active DESC"
        if not (found := db.execute(slots, [NAME]).fetchall()):
            return f"the database {NAME} has no replication slot"
        if not found[0][0]:
            return f"no connector reads the replication slot of {NAME}"
    if not lab.extensions.runs(NAME):
        return f"the service {NAME} does not run"
    return ""


def collect(look: Look, orders: Collection[str]) -> Snapshot:
    """Read the state of these orders."""
    with look.db.connect("payment") as db:
        paid = [row for row in db.execute(PAID) if row[0] in orders]
    with look.db.connect("order") as db:
        traces = {row[0]: row[1] for row in db.execute(TRACES)}
    bookings: dict[str, list[int]] = {one: [] for one in orders}
    with look.db.connect(NAME) as db:
        rows = db.execute("SELECT order_id::text, points FROM points").fetchall()
    for order, points in rows:
        bookings.get(order, []).append(points)
    published: dict[str, Counter[str]] = {one: Counter() for one in orders}
    traceparents: dict[str, list[str]] = {one: [] for one in orders}
    # The relay may publish a row twice; it still counts as one event.
    events = {view.record.headers.get("ce_id"): view.record for view in look.kafka.records(topic=OUTPUT_TOPIC)}
    for record in events.values():
        if record.key in published:
            published[record.key][record.type] += 1
            traceparents[record.key].append(record.headers.get("traceparent") or "")
    return Snapshot(
        {order: captured for order, captured, _ in paid},
        {order: refunded for order, _, refunded in paid},
        bookings,
        published,
        traceparents,
        traces,
        sum(points for _, points in rows),
        {one: look.aliases.name(one, "order") for one in orders},
    )


def points_awarded_once(snapshot: Snapshot) -> RuleVerdict:
    """Check that each paid order has its points exactly once; whether they were taken back is another rule."""
    wanted = {order: cents // 100 for order, cents in snapshot.captured.items() if cents}
    awards = {order: [points for points in snapshot.bookings[order] if points > 0] for order in wanted}
    missing = [order for order in wanted if not awards[order]]
    twice = [order for order in wanted if len(awards[order]) > 1]
    other = [order for order in wanted if awards[order] not in ([], [wanted[order]]) and order not in twice]
    finding = "one point per euro, awarded once"
    if missing:
        finding = f"paid, but no points: {snapshot.named(missing)}"
    if other:
        finding = f"points do not match the euros: {snapshot.named(other)}"
    if twice:
        finding = f"points awarded more than once: {snapshot.named(twice)}"
    return RuleVerdict(PAID_ONCE, not (missing or twice or other), finding)


def no_unpaid_points(snapshot: Snapshot) -> RuleVerdict:
    """Check that a refunded order keeps no points, and that an unpaid order has none."""
    free = [order for order in snapshot.bookings if snapshot.captured.get(order, 0) == snapshot.refunded.get(order, 0)]
    kept = [order for order in free if sum(snapshot.bookings[order]) > 0]
    too_much = [order for order in free if sum(snapshot.bookings[order]) < 0]
    finding = "refunded and unpaid orders have no points"
    if kept:
        finding = f"refunded or unpaid, but with points: {snapshot.named(kept)}"
    if too_much:
        finding = f"more points taken back than awarded: {snapshot.named(too_much)}"
    return RuleVerdict(NOT_UNPAID, not (kept or too_much), finding)


def each_booking_published(snapshot: Snapshot) -> RuleVerdict:
    """Check that each booking has its event in the topic, and each event its booking."""
    silent, invented = [], []
    for order, bookings in snapshot.bookings.items():
        booked = Counter(EVENT_TYPES[points > 0] for points in bookings)
        if booked - snapshot.published[order]:
            silent.append(order)
        if snapshot.published[order] - booked:
            invented.append(order)
    finding = f"each booking has its event in {OUTPUT_TOPIC}"
    if invented:
        finding = f"an event without a booking: {snapshot.named(invented)}"
    if silent:
        finding = f"a booking without an event: {snapshot.named(silent)}"
    return RuleVerdict(PUBLISHED, not (silent or invented), finding)


def one_trace(snapshot: Snapshot) -> RuleVerdict:
    """Check that each event belongs to the trace of its order."""
    none, other = [], []
    for order, traceparents in snapshot.traceparents.items():
        ids = {one.split("-")[1] if one.count("-") == 3 else "" for one in traceparents}
        if "" in ids:
            none.append(order)
        elif ids - {snapshot.traces.get(order, "")}:
            other.append(order)
    finding = "each event belongs to its order's trace"
    if other:
        finding = f"in a different trace than their order: {snapshot.named(other)}"
    if none:
        finding = f"an event without a traceparent: {snapshot.named(none)}"
    return RuleVerdict(ONE_TRACE, not (none or other), finding)


def metric_is_correct(look: Look, snapshot: Snapshot) -> RuleVerdict:
    """Check that the metric matches the database; a service on a busy machine may leave it out of a response."""
    problem = ""

    def matches() -> bool:
        nonlocal problem
        try:
            value = look.metrics.value(NAME, METRIC)
        except ShopUnavailable:
            problem = f"{NAME} returns no metrics: is it running?"
            return False
        except KitError as error:
            problem = error.problem.rstrip(".")
            return False
        problem = f"{METRIC} is {value}, but the sum of all points is {snapshot.total}"
        return value == snapshot.total

    try:
        wait_until(matches, METRIC_TIMEOUT)
    except WaitTimedOut:
        return RuleVerdict(METRIC_CORRECT, False, problem)
    return RuleVerdict(METRIC_CORRECT, True, f"{METRIC} is the sum of all points")


def check_rules(look: Look, orders: Collection[str]) -> list[RuleVerdict]:
    """Check loyalty's result for some orders, when no event is in flight."""
    snapshot = collect(look, orders)
    return [
        points_awarded_once(snapshot),
        no_unpaid_points(snapshot),
        each_booking_published(snapshot),
        one_trace(snapshot),
        metric_is_correct(look, snapshot),
    ]


@checked
def referee(lab: Lab, look: Look) -> pd.DataFrame:
    """Check loyalty's result for every order, and return the rules as a table.

    As long as the service lacks a part, no rule holds, and the table names the part.
    """
    if missing := missing_part(lab, look):
        rules = [RuleVerdict(name, False, missing) for name in RULES]
    else:
        with look.db.connect("order") as db:
            orders = [row[0] for row in db.execute("SELECT order_id::text FROM orders")]
        settle(lab, look, orders)
        rules = check_rules(look, orders)
    return pd.DataFrame([(rule.name, rule.holds, rule.finding) for rule in rules], columns=["rule", "holds", "seen"])
