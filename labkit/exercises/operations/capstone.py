"""The exercises of notebook 13: trials of the loyalty service that the learner builds."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from labkit.capstone import trials
from labkit.capstone.extension import ExtensionService
from labkit.capstone.loyalty import NAME, SOLUTION
from labkit.capstone.referee import (
    OUTPUT_TOPIC,
    RuleVerdict,
    Snapshot,
    check_rules,
    collect,
    each_booking_published,
    metric_is_correct,
    missing_part,
    no_unpaid_points,
    one_trace,
    points_awarded_once,
    settle,
)
from labkit.errors import KitError, WaitTimedOut
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong


def slip(message: str, *edits: tuple[str, str]) -> Wrong:
    """Return a typical wrong attempt: the solution with some edits of the service's file."""
    return Wrong("\n".join([SOLUTION, *(f"loyalty.edit({old!r}, {new!r})" for old, new in edits)]), message)


class Trial(Exercise):
    """A trial of the service. The check starts it from the current file and looks at tables, topic and metric."""

    kind = "code"
    answer = SOLUTION
    asks_value = False
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        loyalty = ExtensionService(bench.lab, NAME)
        if not loyalty.code:
            return untouched(f"There is no {loyalty.file.as_posix()} yet.")
        try:
            loyalty.start()
        except KitError as error:
            reason = trials.last_error(bench.lab) if NAME in bench.lab.extensions.names else error.problem
            return wrong(f"The service does not start: {reason}")
        if missing := missing_part(bench.lab, bench.look):
            where = " Connect's log has the reason: print(lab.logs('connect'))." if "connector" in missing else ""
            return wrong(f"The service can't be tried: {missing}.{where}")
        try:
            return self.run_trials(bench, loyalty)
        except WaitTimedOut as error:
            return wrong(f"{error.problem} The last error in its log: {trials.last_error(bench.lab)}")

    def submission(self, bench: Bench, answer: Any) -> str:
        return ExtensionService(bench.lab, NAME).code

    def run_trials(self, bench: Bench, loyalty: ExtensionService) -> Verdict:
        """Run trials on the service, and return the verdict."""
        raise NotImplementedError


def snapshot_of(bench: Bench, *orders: str) -> Snapshot:
    """Wait until these orders have no events in flight, and read their state."""
    settle(bench.lab, bench.look, orders)
    return collect(bench.look, orders)


def first_broken(*rules: RuleVerdict) -> str:
    """Return what the first failing rule has seen, or an empty text."""
    return next((rule.finding for rule in rules if not rule.holds), "")


class JoinIn(Trial):
    """A service that takes part: points and an event for a paid order."""

    name = "join-in"
    title = "A paid order gets a point for each euro, and a record reports it"
    level = 3
    minutes = 45
    hints = (
        "Payment's outbox shows what a table, a publication and a slot look like, and GET "
        "/connectors/payment-outbox/config at Connect shows a configuration. Loyalty's own differ in names, and in "
        "loyalty.connection. A handler of payment shows how a service uses its transaction.",
        "CREATE TABLE, CREATE PUBLICATION and pg_create_logical_replication_slot() in the database loyalty; "
        "PUT /connectors/loyalty-outbox/config; a function that receives (db, event, event_id), where db is a psycopg "
        "connection in a transaction, and HANDLERS with PaymentCompleted from labservices.events.",
        "The service's file begins like this.\n    from labservices.events import PaymentCompleted\n\n\n"
        "    def on_paid(db, event, event_id):\n        points = event.amount_cents // 100",
    )
    why = (
        "A new participant needs no change of the others: it reads a topic with its own consumer group, and keeps its "
        "state in its own database. What it does and what it reports are one transaction, and the connector carries "
        "the report into the topic, in the order of the commits."
    )
    mistakes = (
        slip(
            "points do not match the euros",
            ("amount_cents // 100\n        book(db, event, points)", "amount_cents\n        book(db, event, points)"),
        ),
        slip("has the key", ("        [uuid4(), event.order_id, kind,", "        [uuid4(), uuid4(), kind,")),
        slip(
            "customer_id", (', "customer_id": event.customer_id, "points"', ', "customer": event.customer_id, "points"')
        ),
    )

    def run_trials(self, bench: Bench, loyalty: ExtensionService) -> Verdict:
        order = trials.one_order(bench.shop)
        snapshot = snapshot_of(bench, order)
        if broken := first_broken(points_awarded_once(snapshot)):
            return wrong(f"An order was paid: {broken}.")
        records = [view.record for view in bench.look.kafka.records(topic=OUTPUT_TOPIC)]
        record = next((one for one in records if order.encode() in (one.value or b"")), None)
        if record is None:
            return wrong(f"{snapshot.named([order])} has its points, but no record in {OUTPUT_TOPIC} names it.")
        if record.key != order:
            return wrong(
                f"The record has the key {record.key}, and not the order's id: its order in the topic is lost."
            )
        expected = {"order_id": order, "customer_id": "grace", "points": sum(snapshot.bookings[order])}
        with suppress(ValueError):
            if json.loads(record.value or b"") == expected and record.type == "PointsAwarded":
                return right("An order was paid: its points are booked, and a record reports them.")
        seen = (record.value or b"").decode(errors="replace")[:200]
        return wrong(
            f"The record is {record.type or 'without ce_type'} {seen}, and should be PointsAwarded {expected}."
        )


class OnceOnly(Trial):
    """An inbox against duplicates."""

    name = "once-only"
    title = "Award points once, even if the event arrives several times"
    level = 2
    minutes = 2
    hints = (
        "Look at labservices/messaging/inbox.py, and at 04: where does a service remember what it has handled, so that "
        "a restart does not forget it? The handler gets event_id.",
        "Use a table inbox with event_id as its primary key. INSERT ... ON CONFLICT DO NOTHING returns a cursor; its "
        "rowcount tells whether the row is new. It must be the first statement of the handler's transaction.",
        "The function begins like this.\n    def is_new(db, event_id):\n        there = db.execute(",
    )
    why = (
        "Kafka delivers an event at least once; the database makes its effect happen once. The handler writes the "
        "event's id in the same transaction as the points, so there is never one without the other. A second delivery "
        "finds the id, and the handler stops."
    )
    mistakes = (
        slip(
            "restart",
            (
                "    return there.rowcount == 1",
                "    before = len(SEEN)\n    SEEN.add(event_id)\n    return len(SEEN) > before",
            ),
            ("def is_new(", "SEEN = set()\n\n\ndef is_new("),
        ),
        slip("restart", ("    return there.rowcount == 1", "    return True")),
    )

    def run_trials(self, bench: Bench, loyalty: ExtensionService) -> Verdict:
        order = trials.one_order(bench.shop)
        settle(bench.lab, bench.look, [order])
        loyalty.stop()
        trials.send_again(bench.lab, bench.look, [order])
        loyalty.start()
        snapshot = snapshot_of(bench, order)
        if broken := first_broken(points_awarded_once(snapshot), each_booking_published(snapshot)):
            return wrong(
                f"Every event arrived a second time, after a restart: {broken}. What still knows after a restart that "
                "an event was handled, and does your handler stop because of it?"
            )
        return right(
            "Every event arrived a second time, after a restart, and the points were booked and published once."
        )


class GiveBack(Trial):
    """A compensation for refunds."""

    name = "give-back"
    title = "Take points back when an order is refunded"
    level = 2
    minutes = 3
    hints = (
        "Look at the events of payment.events: which one says that an order was refunded, and can it overtake its "
        "PaymentCompleted?",
        "Use a second handler for PaymentRefunded: book a row with a negative number, publish PointsTakenBack, and add "
        "it to HANDLERS. Does it use the inbox, too?",
        "It begins like this.\n    def on_refunded(db, event, event_id):",
    )
    why = (
        "A compensation is a new fact; it does not remove an old one. It adds a row and publishes an event. It reacts "
        "to PaymentRefunded because that event is in the same topic as PaymentCompleted, under the same key, and "
        "can't overtake it. ShippingFailed would come from another topic, perhaps before the payment, and you would "
        "need tombstones, as payment does."
    )
    mistakes = (
        slip("keeps its points", (", PaymentRefunded: on_refunded}", "}")),
        slip("no event reports it", ('        publish(db, "PointsTakenBack", event, points)\n', "")),
        slip(
            "only added",
            (
                "        book(db, event, -points)\n",
                '        db.execute("DELETE FROM points WHERE order_id = %s", [event.order_id])\n',
            ),
        ),
    )

    def run_trials(self, bench: Bench, loyalty: ExtensionService) -> Verdict:
        order = trials.one_order(bench.shop, trials.NOWHERE)
        snapshot = snapshot_of(bench, order)
        name = snapshot.named([order])
        if snapshot.published[order]["PointsAwarded"] and not any(points > 0 for points in snapshot.bookings[order]):
            return wrong(f"The row of {name} is gone, as if it had never had points. Rows are only added.")
        if not no_unpaid_points(snapshot).holds and sum(snapshot.bookings[order]) > 0:
            return wrong(f"{name} was paid and refunded, but keeps its points. Which event reports the refund?")
        if not each_booking_published(snapshot).holds and not snapshot.published[order]["PointsTakenBack"]:
            return wrong(
                f"The points of {name} are taken back, but no event reports it: the topic has no PointsTakenBack."
            )
        if broken := first_broken(
            points_awarded_once(snapshot), no_unpaid_points(snapshot), each_booking_published(snapshot)
        ):
            return wrong(f"An order was paid and refunded: {broken}.")
        return right(
            f"{name} was paid and refunded: its points were awarded and taken back, and both events were published."
        )


class SameTrace(Trial):
    """Propagation of the trace context."""

    name = "same-trace"
    title = "Loyalty's events belong to the trace of their order"
    level = 2
    minutes = 5
    hints = (
        "Notebook 10 follows the traceparent through an outbox: a column, which the connector copies into a header.",
        "current_traceparent() in labservices.telemetry.tracing returns the traceparent of the current span, which is "
        "your handler's.",
        "The connector's setting begins like this.\n"
        '    "transforms.outbox.table.fields.additional.placement": "traceparent:header:traceparent,',
    )
    why = (
        "The consumer that calls your handler reads the record's header and starts a span in that trace. You pass the "
        "context on in the row's column, and a future consumer of PointsAwarded appears below your span in the same "
        "trace."
    )
    mistakes = (
        slip(
            "column",
            ('"points": points}', '"points": points, "traceparent": current_traceparent()}'),
            ("Jsonb(payload), current_traceparent()]", "Jsonb(payload), None]"),
        ),
        slip(
            "a different trace",
            ("Jsonb(payload), current_traceparent()]", 'Jsonb(payload), f"00-{uuid4().hex}-{uuid4().hex[:16]}-01"]'),
        ),
    )

    def run_trials(self, bench: Bench, loyalty: ExtensionService) -> Verdict:
        order = trials.one_order(bench.shop)
        snapshot = snapshot_of(bench, order)
        if not snapshot.traceparents[order]:
            return wrong(f"{snapshot.named([order])} was paid, but loyalty published no event.")
        if not all(snapshot.traceparents[order]):
            return wrong("The record has no traceparent: its column in the outbox is empty, or the connector drops it.")
        if broken := first_broken(one_trace(snapshot)):
            return wrong(
                f"There is a traceparent, but {broken}. Use the one that arrived with the event; don't generate one."
            )
        return right("The record belongs to the trace in which the order started.")


class TellTheNumber(Trial):
    """A metric that is correct after a restart."""

    name = "tell-the-number"
    title = "A metric that is still correct after a restart"
    level = 2
    minutes = 4
    hints = (
        "A process loses its counters when it stops. Where is the number of points after a restart? Look at how "
        "order exposes levels: labservices/order/gauges.py.",
        "labservices.telemetry.gauges.Gauge(name, documentation, labels, statement) queries the database at each "
        "scrape. The runner exposes those in GAUGES = (...,).",
        'It begins like this.\n    GAUGES = (Gauge("loyalty_points", "Points that customers hold", (), "SELECT',
    )
    why = (
        "A counter may restart at 0: rate() handles that, because it measures only how fast the counter grows. A "
        "level, such as points or stock, does not belong in a process's memory. There it would also count what is "
        "rolled back."
    )
    mistakes = (
        slip(
            "restart",
            ("from labservices.telemetry.gauges import Gauge", "from prometheus_client import Gauge"),
            (
                'GAUGES = (Gauge("loyalty_points", "Points that customers hold", (), '
                '"SELECT coalesce(sum(points), 0) FROM points"),)',
                'POINTS = Gauge("loyalty_points", "Points that customers hold")',
            ),
            ("def book(db, event, points):\n", "def book(db, event, points):\n    POINTS.inc(points)\n"),
        ),
        slip("rows", ("coalesce(sum(points), 0)", "count(*)")),
    )

    def run_trials(self, bench: Bench, loyalty: ExtensionService) -> Verdict:
        order = trials.one_order(bench.shop)
        settle(bench.lab, bench.look, [order])
        loyalty.start()
        snapshot = snapshot_of(bench, order)
        rule = metric_is_correct(bench.look, snapshot)
        if rule.holds:
            return right("The service was restarted, and its metric still reports the sum of all points.")
        rows = len(bench.look.db.rows(NAME, "SELECT FROM points"))
        with suppress(KitError):  # the service has no such metric
            if bench.look.metrics.value(NAME, "loyalty_points") == rows:
                return wrong(f"{rule.finding}. Your metric reports the number of rows.")
        return wrong(f"After a restart, {rule.finding}. Where does the number come from when a process starts?")


class OneTransaction(Trial):
    """Points and event in one transaction."""

    name = "one-transaction"
    title = "Points and event: both or neither"
    level = 2
    minutes = 2
    hints = (
        "The handler is called inside a transaction, which is committed after it.",
        "Which statement of yours ends the transaction too early, or hides from the caller that it failed?",
        "The runner does this.\n    with psycopg.connect(url) as db:\n        handler(db, event, event_id)",
    )
    why = (
        "One commit too many defeats the outbox: it makes two transactions, and in the gap between them the process "
        "can crash or the database can reject a row. Nothing shows the fault until that happens. It even defeats an "
        "inbox: if the id is committed and the event is not, the second attempt finds the id and stops."
    )
    mistakes = (
        slip(
            "event without points",
            (
                '        book(db, event, points)\n        publish(db, "PointsAwarded", event, points)',
                '        publish(db, "PointsAwarded", event, points)\n'
                "        db.commit()\n        book(db, event, points)",
            ),
        ),
        slip(
            "points without an event",
            (
                '        publish(db, "PointsAwarded", event, points)',
                '        db.commit()\n        publish(db, "PointsAwarded", event, points)',
            ),
        ),
    )

    def run_trials(self, bench: Bench, loyalty: ExtensionService) -> Verdict:
        orders = [trials.one_order(bench.shop)]
        settle(bench.lab, bench.look, orders)  # otherwise the table would reject an earlier order's row
        for table in ("outbox", "points"):
            with trials.refused_once(bench.shop, bench.look, table) as order:
                booked, published = trials.left_behind(bench.look, order)
            orders.append(order)
            if booked:
                return wrong("The outbox rejected its row, but the points were committed: points without an event.")
            if published:
                return wrong("The points were rejected, but the event was published: an event without points.")
            settle(bench.lab, bench.look, orders)  # otherwise the next table would reject this order's retry
        snapshot = snapshot_of(bench, *orders)
        if broken := first_broken(points_awarded_once(snapshot), each_booking_published(snapshot)):
            return wrong(f"A table rejected a row once. Afterwards: {broken}.")
        return right(
            "While a table rejected its row, there were neither points nor an event; afterwards there were both."
        )


class TheReferee(Trial):
    """All rules at once."""

    name = "the-referee"
    title = "All five rules, with duplicates, refunds, a crash and a database that rejects rows"
    level = 3
    minutes = 3
    hints = (
        "Each trial tries one thing. Look at referee(lab, look) after the check: which rule breaks when they meet?",
        "A PaymentRefunded can arrive twice, too, and a second handler needs everything that the first one has.",
        "A handler begins like this.\n    def on_refunded(db, event, event_id):\n        if is_new(db, event_id):",
    )
    why = (
        "Fifty lines do what each of the four services does: first the inbox, then the change, then the outbox, all "
        "in one transaction; compensations as careful as the main path; the trace context passed on; levels read from "
        "the database. You know the rest by now: guards for each effect, tombstones, parking and dead letters."
    )
    mistakes = (
        slip(
            "more points taken back than awarded",
            (
                "def on_refunded(db, event, event_id):\n    if is_new(db, event_id):",
                "def on_refunded(db, event, event_id):\n    if True:",
            ),
        ),
        slip("but with points", (", PaymentRefunded: on_refunded}", "}")),
    )

    def run_trials(self, bench: Bench, loyalty: ExtensionService) -> Verdict:
        orders = trials.all_at_once(bench.lab, bench.shop, bench.look, loyalty)
        rules = check_rules(bench.look, orders)
        broken = [f"{rule.name}: {rule.finding}" for rule in rules if not rule.holds]
        if broken:
            return wrong(f"{len(rules) - len(broken)} of {len(rules)} rules hold. These do not: {'; '.join(broken)}.")
        return right(f"{len(orders)} orders, and all {len(rules)} rules hold. Loyalty is now part of the saga.")


EXERCISES = (JoinIn(), OnceOnly(), GiveBack(), SameTrace(), TellTheNumber(), OneTransaction(), TheReferee())
