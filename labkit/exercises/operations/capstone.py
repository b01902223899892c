"""The exercises of notebook 13: fixing the draft of a loyalty service."""

from __future__ import annotations

from typing import Any

from labkit.capstone import trials
from labkit.capstone.extension import ExtensionService
from labkit.capstone.loyalty import DRAFT, INBOX, NAME, SOLUTION, build
from labkit.capstone.referee import (
    Rule,
    Snapshot,
    check_rules,
    collect,
    each_booking_published,
    metric_is_correct,
    no_unpaid_points,
    one_trace,
    points_awarded_once,
    settle,
)
from labkit.errors import KitError, WaitTimedOut
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong

LOYALTY = f'from labkit.capstone import ExtensionService\nloyalty = ExtensionService(lab, "{NAME}")'


class Fix(Exercise):
    """A fix of the service's file. The check starts the service from the current file, and runs trials on it."""

    asks_value = False
    needs_setup = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        loyalty = build(bench.lab, bench.look)
        return f"{loyalty.file.as_posix()} is ready, with its database and its connector.", {}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        loyalty = build(bench.lab, bench.look)
        if loyalty.code == DRAFT:
            return untouched(f"{loyalty.file.as_posix()} is still the draft.")
        try:
            loyalty.start()
        except KitError:
            return wrong(f"The service does not start: {trials.last_error(bench.lab)}")
        try:
            return self.run_trials(bench, loyalty)
        except WaitTimedOut as error:
            return wrong(f"{error.problem} The last error in its log: {trials.last_error(bench.lab)}")

    def run_trials(self, bench: Bench, loyalty: ExtensionService) -> Verdict:
        """Run trials on the service, and return the verdict."""
        raise NotImplementedError


def snapshot_of(bench: Bench, *orders: str) -> Snapshot:
    """Wait until these orders have no events in flight, and read their state."""
    settle(bench.lab, bench.look, orders)
    return collect(bench.look, orders)


def first_broken(*rules: Rule) -> str:
    """Return what the first failing rule has seen, or an empty text."""
    return next((rule.finding for rule in rules if not rule.holds), "")


class OnceOnly(Fix):
    """An inbox against duplicates."""

    name = "once-only"
    title = "Award points once, even if the event arrives several times"
    tip = (
        "The handler receives event_id. Create a table inbox with event_id as its primary key. INSERT ... ON CONFLICT "
        "DO NOTHING returns a cursor; its rowcount tells whether the row is new. This must be the first statement of "
        "the handler's transaction. labservices/messaging/inbox.py does the same."
    )
    answer = f"""
{LOYALTY}
with look.db.connect("{NAME}") as db:
    _ = db.execute("{INBOX}")
loyalty.edit('''
def on_paid(db, event, event_id):
''', '''
def is_new(db, event_id):
    there = db.execute("INSERT INTO inbox (event_id) VALUES (%s) ON CONFLICT DO NOTHING", [event_id])
    return there.rowcount == 1


def on_paid(db, event, event_id):
    if not is_new(db, event_id):
        return
''')
"""
    why = (
        "Kafka delivers an event at least once; the database makes its effect happen once. The handler writes the "
        "event's id in the same transaction as the points, so there is never one without the other. A second delivery "
        "finds the id, and the handler stops."
    )
    mistakes = (
        Wrong(
            f"""
{LOYALTY}
loyalty.edit("def on_paid(db, event, event_id):", '''
SEEN = set()


def on_paid(db, event, event_id):
    if event_id in SEEN:
        return
    SEEN.add(event_id)
''')
""",
            "restart",
        ),
        Wrong(
            f"""
{LOYALTY}
with look.db.connect("{NAME}") as db:
    db.execute("{INBOX}")
loyalty.edit("    points = event.amount_cents // 100", '''
    db.execute("INSERT INTO inbox (event_id) VALUES (%s) ON CONFLICT DO NOTHING", [event_id])
    points = event.amount_cents // 100
''')
""",
            "restart",
        ),
    )
    needs_setup = True

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


class GiveBack(Fix):
    """A compensation for refunds."""

    name = "give-back"
    title = "Take points back when an order is refunded"
    tip = (
        "PaymentRefunded comes from the same topic with the same key, so it arrives after its PaymentCompleted. Book "
        "a row with a negative number, publish PointsTakenBack, and add your handler to HANDLERS."
    )
    answer = f"""
{LOYALTY}
loyalty.edit("import PaymentCompleted", "import PaymentCompleted, PaymentRefunded")
loyalty.edit("HANDLERS = {{PaymentCompleted: on_paid}}", '''
def on_refunded(db, event, event_id):
    points = event.amount_cents // 100
    book(db, event, -points)
    say(db, "PointsTakenBack", event, points)


HANDLERS = {{PaymentCompleted: on_paid, PaymentRefunded: on_refunded}}
''')
"""
    why = (
        "A compensation is a new fact; it does not remove an old one. It adds a row and publishes an event. It reacts "
        "to PaymentRefunded because that event is in the same topic as PaymentCompleted, under the same key, and "
        "can't overtake it. ShippingFailed would come from another topic, perhaps before the payment, and you would "
        "need tombstones, as payment does. (Does your new handler use the inbox, too?)"
    )
    mistakes = (
        Wrong(
            f"""
{LOYALTY}
loyalty.edit("import PaymentCompleted", "import PaymentCompleted, PaymentFailed")
loyalty.edit("HANDLERS = {{PaymentCompleted: on_paid}}", '''
def on_failed(db, event, event_id):
    book(db, event, -(event.total_cents // 100))
    say(db, "PointsTakenBack", event, event.total_cents // 100)


HANDLERS = {{PaymentCompleted: on_paid, PaymentFailed: on_failed}}
''')
""",
            "keeps its points",
        ),
        Wrong(
            f"""
{LOYALTY}
loyalty.edit("import PaymentCompleted", "import PaymentCompleted, PaymentRefunded")
loyalty.edit("HANDLERS = {{PaymentCompleted: on_paid}}", '''
def on_refunded(db, event, event_id):
    book(db, event, -(event.amount_cents // 100))


HANDLERS = {{PaymentCompleted: on_paid, PaymentRefunded: on_refunded}}
''')
""",
            "no event reports it",
        ),
        Wrong(
            f"""
{LOYALTY}
loyalty.edit("import PaymentCompleted", "import PaymentCompleted, PaymentRefunded")
loyalty.edit("HANDLERS = {{PaymentCompleted: on_paid}}", '''
def on_refunded(db, event, event_id):
    db.execute("DELETE FROM points WHERE order_id = %s", [event.order_id])
    say(db, "PointsTakenBack", event, event.amount_cents // 100)


HANDLERS = {{PaymentCompleted: on_paid, PaymentRefunded: on_refunded}}
''')
""",
            "only added",
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


class SameTrace(Fix):
    """Propagation of the trace context."""

    name = "same-trace"
    title = "Loyalty's events belong to the trace of their order"
    tip = (
        "The outbox has a column traceparent, and the connector copies it into a header. current_traceparent() in "
        "labservices.telemetry.tracing returns the traceparent of the current span, which is your handler's."
    )
    answer = f"""
{LOYALTY}
loyalty.edit("from labservices.messaging.events", '''
from labservices.telemetry.tracing import current_traceparent
from labservices.messaging.events
''')
loyalty.edit('''
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) VALUES (%s, 'loyalty', %s, %s, %s)",
        [uuid4(), event.order_id, kind, Jsonb(payload)],
''', '''
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, traceparent)"
        " VALUES (%s, 'loyalty', %s, %s, %s, %s)",
        [uuid4(), event.order_id, kind, Jsonb(payload), current_traceparent()],
''')
"""
    why = (
        "The consumer that calls your handler reads the record's header and starts a span in that trace. You pass the "
        "context on in the row's column, and a future consumer of PointsAwarded appears below your span in the same "
        "trace."
    )
    mistakes = (
        Wrong(
            f"""
{LOYALTY}
loyalty.edit("from labservices.messaging.events", '''
from labservices.telemetry.tracing import current_traceparent
from labservices.messaging.events
''')
loyalty.edit('"points": points}}', '"points": points, "traceparent": current_traceparent()}}')
""",
            "column",
        ),
        Wrong(
            f"""
{LOYALTY}
loyalty.edit('''
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) VALUES (%s, 'loyalty', %s, %s, %s)",
        [uuid4(), event.order_id, kind, Jsonb(payload)],
''', '''
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, traceparent)"
        " VALUES (%s, 'loyalty', %s, %s, %s, %s)",
        [uuid4(), event.order_id, kind, Jsonb(payload), f"00-{{uuid4().hex}}-{{uuid4().hex[:16]}}-01"],
''')
""",
            "a different trace",
        ),
    )

    def run_trials(self, bench: Bench, loyalty: ExtensionService) -> Verdict:
        order = trials.one_order(bench.shop)
        snapshot = snapshot_of(bench, order)
        if not snapshot.traceparents[order]:
            return wrong(f"{snapshot.named([order])} was paid, but loyalty published no event.")
        if not all(snapshot.traceparents[order]):
            return wrong("The record has no traceparent: its column in the outbox is empty.")
        if broken := first_broken(one_trace(snapshot)):
            return wrong(
                f"There is a traceparent, but {broken}. Use the one that arrived with the event; don't generate one."
            )
        return right("The record belongs to the trace in which the order started.")


class TellTheNumber(Fix):
    """A metric that is correct after a restart."""

    name = "tell-the-number"
    title = "A metric that is still correct after a restart"
    tip = (
        "A process loses its counters when it stops. labservices.telemetry.gauges.Gauge(name, documentation, labels, "
        "statement) queries the database at each scrape instead. Put yours into GAUGES = (...,)."
    )
    answer = f"""
{LOYALTY}
loyalty.edit("from prometheus_client import Gauge", "from labservices.telemetry.gauges import Gauge")
loyalty.edit('POINTS = Gauge("loyalty_points", "Points that customers hold")', '''
GAUGES = (Gauge("loyalty_points", "Points that customers hold", (), "SELECT coalesce(sum(points), 0) FROM points"),)
''')
loyalty.edit("    POINTS.inc(points)", "")
"""
    why = (
        "A counter may restart at 0: rate() handles that, because it measures only how fast the counter grows. A "
        "level, such as points or stock, does not belong in a process's memory. The draft has another fault there: it "
        "counts before the commit, so it also counts what is rolled back."
    )
    mistakes = (
        Wrong(
            f"""
{LOYALTY}
loyalty.edit("from prometheus_client import Gauge", "from prometheus_client import Counter")
loyalty.edit('Gauge("loyalty_points"', 'Counter("loyalty_points"')
""",
            "restart",
        ),
        Wrong(
            f"""
{LOYALTY}
loyalty.edit("from prometheus_client import Gauge", "from labservices.telemetry.gauges import Gauge")
loyalty.edit('POINTS = Gauge("loyalty_points", "Points that customers hold")', '''
GAUGES = (Gauge("loyalty_points", "Points that customers hold", (), "SELECT count(*) FROM points"),)
''')
loyalty.edit("    POINTS.inc(points)", "")
""",
            "rows",
        ),
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
        if bench.look.metrics.value(NAME, "loyalty_points") == rows:
            return wrong(f"{rule.finding}. Your metric reports the number of rows.")
        return wrong(f"After a restart, {rule.finding}. Where does the number come from when a process starts?")


class OneTransaction(Fix):
    """Points and event in one transaction."""

    name = "one-transaction"
    title = "Points and event: both or neither"
    tip = (
        "The handler is called inside a transaction, which is committed after it. Which statement ends the "
        "transaction before the event is written?"
    )
    answer = f"""
{LOYALTY}
loyalty.edit("    db.commit()  # so that the customer sees them at once", "")
"""
    why = (
        "One line defeats the outbox: it makes two transactions, and in the gap between them the process can crash or "
        "the database can reject a row. Nothing shows the fault until that happens. It even defeats an inbox: if the "
        "id is committed and the event is not, the second attempt finds the id and stops."
    )
    mistakes = (
        Wrong(
            f"""
{LOYALTY}
loyalty.edit('''
    book(db, event, points)
    db.commit()  # so that the customer sees them at once
    say(db, "PointsAwarded", event, points)
''', '''
    say(db, "PointsAwarded", event, points)
    db.commit()
    book(db, event, points)
''')
""",
            "event without points",
        ),
        Wrong(
            f"""
{LOYALTY}
loyalty.edit('''
    say(db, "PointsAwarded", event, points)
''', '''
    try:
        say(db, "PointsAwarded", event, points)
    except Exception:
        pass  # the points are there, which is what counts
''')
""",
            "points without an event",
        ),
    )

    def run_trials(self, bench: Bench, loyalty: ExtensionService) -> Verdict:
        orders = []
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


class TheReferee(Fix):
    """All fixes at once."""

    name = "the-referee"
    title = "All five rules, with duplicates, refunds, a crash and a database that rejects rows"
    tip = (
        "Each of the five changes works alone. Now combine them: a PaymentRefunded can arrive twice, too, and a "
        "second handler needs everything that the first one has."
    )
    answer = f"""
{LOYALTY}
with look.db.connect("{NAME}") as db:
    _ = db.execute("{INBOX}")
loyalty.write('''
{SOLUTION}
''')
"""
    why = (
        "Fifty lines do what each of the four services does: first the inbox, then the change, then the outbox, all "
        "in one transaction; compensations as careful as the main path; the trace context passed on; levels read from "
        "the database. You know the rest by now: guards for each effect, tombstones, parking and dead letters."
    )
    mistakes = (
        Wrong(
            f"""
{LOYALTY}
with look.db.connect("{NAME}") as db:
    db.execute("{INBOX}")
loyalty.write('''
{SOLUTION}
''')
loyalty.edit('''
def on_refunded(db, event, event_id):
    if is_new(db, event_id):
''', '''
def on_refunded(db, event, event_id):
    if True:
''')
""",
            "more points taken back than awarded",
        ),
        Wrong(
            f"""
{LOYALTY}
with look.db.connect("{NAME}") as db:
    db.execute("{INBOX}")
loyalty.write('''
{SOLUTION}
''')
loyalty.edit(", PaymentRefunded: on_refunded}}", "}}")
""",
            "but with points",
        ),
    )

    def run_trials(self, bench: Bench, loyalty: ExtensionService) -> Verdict:
        orders = trials.all_at_once(bench.lab, bench.shop, bench.look, loyalty)
        rules = check_rules(bench.look, orders)
        broken = [f"{rule.name}: {rule.finding}" for rule in rules if not rule.holds]
        if broken:
            return wrong(f"{len(rules) - len(broken)} of {len(rules)} rules hold. These do not: {'; '.join(broken)}.")
        return right(f"{len(orders)} orders, and all {len(rules)} rules hold. Loyalty is now part of the saga.")


EXERCISES = (OnceOnly(), GiveBack(), SameTrace(), TellTheNumber(), OneTransaction(), TheReferee())
