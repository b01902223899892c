"""The exercises of notebook 13: fixing the draft of a loyalty service."""

from __future__ import annotations

from typing import Any

from labkit.capstone import trials
from labkit.capstone.guest import Guest
from labkit.capstone.loyalty import DRAFT, INBOX, NAME, WHOLE, build
from labkit.capstone.referee import (
    Rule,
    Seen,
    collect,
    each_said,
    judge,
    metric_is_true,
    none_kept,
    one_trace,
    paid_once,
    settle,
)
from labkit.errors import KitError, WaitedTooLong
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong

MINE = f'from labkit.capstone import Guest\nloyalty = Guest(lab, "{NAME}")'


class Mend(Exercise):
    """A fix of the service's file. The check starts the service from the current file, and runs trials on it."""

    asks_value = False
    needs_setup = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        loyalty = build(bench.lab, bench.look)
        return f"{loyalty.file.as_posix()} is there, with its database and its connector.", {}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        loyalty = build(bench.lab, bench.look)
        if loyalty.code == DRAFT:
            return untouched(f"{loyalty.file.as_posix()} is still the draft.")
        try:
            loyalty.start()
        except KitError:
            return wrong(f"It does not start: {trials.last_error(bench.lab)}")
        try:
            return self.tried(bench, loyalty)
        except WaitedTooLong as error:
            return wrong(f"{error.problem} The last error of its log: {trials.last_error(bench.lab)}")

    def tried(self, bench: Bench, loyalty: Guest) -> Verdict:
        """Run trials on the service, and return the verdict."""
        raise NotImplementedError


def seen_of(bench: Bench, *orders: str) -> Seen:
    """Wait until these orders have no events in flight, and read their state."""
    settle(bench.lab, bench.look, orders)
    return collect(bench.look, orders)


def first_broken(*rules: Rule) -> str:
    """Return what the first failing rule has seen, or an empty text."""
    return next((rule.says for rule in rules if not rule.holds), "")


class OnceOnly(Mend):
    """An inbox against duplicates."""

    name = "once-only"
    title = "Points once, however often the event comes"
    tip = (
        "The handler is given event_id. Make a table inbox with event_id as its primary key. INSERT ... ON CONFLICT DO "
        "NOTHING returns a cursor whose rowcount says whether the row is new. It has to be the first statement of the "
        "handler's transaction. labservices/messaging/inbox.py does the same."
    )
    answer = f"""
{MINE}
with look.connect("{NAME}") as db:
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
        "Kafka gives an event at least once; the database makes it once. The id is written in the transaction that "
        "books the points, so there is never one without the other. Whoever is given the event again finds the id, and "
        "stops."
    )
    mistakes = (
        Wrong(
            f"""
{MINE}
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
{MINE}
with look.connect("{NAME}") as db:
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

    def tried(self, bench: Bench, loyalty: Guest) -> Verdict:
        order = trials.one_order(bench.shop)
        settle(bench.lab, bench.look, [order])
        loyalty.stop()
        trials.send_again(bench.lab, bench.look, [order])
        loyalty.start()
        seen = seen_of(bench, order)
        if broken := first_broken(paid_once(seen), each_said(seen)):
            return wrong(
                f"Every event came once more, after a restart: {broken}. What still knows then that an event was "
                "handled, and does your handler stop because of it?"
            )
        return right("Every event came once more, after a restart, and the points are booked and said once.")


class GiveBack(Mend):
    """A compensation for refunds."""

    name = "give-back"
    title = "Refunded orders give their points back"
    tip = (
        "PaymentRefunded comes from the same topic, with the same key, so it comes after its PaymentCompleted. Book a "
        "row with a minus, say PointsTakenBack, and put your handler into HANDLERS."
    )
    answer = f"""
{MINE}
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
        "A compensation is a new fact, not the removal of an old one: a row is added, and an event says so. It hangs "
        "on PaymentRefunded, since that is in the topic of PaymentCompleted and under the same key: it can't "
        "overtake it. ShippingFailed would come from another topic, perhaps before the payment, and you "
        "would need tombstones, as "
        "payment does. (Does your new handler ask the inbox, too?)"
    )
    mistakes = (
        Wrong(
            f"""
{MINE}
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
{MINE}
loyalty.edit("import PaymentCompleted", "import PaymentCompleted, PaymentRefunded")
loyalty.edit("HANDLERS = {{PaymentCompleted: on_paid}}", '''
def on_refunded(db, event, event_id):
    book(db, event, -(event.amount_cents // 100))


HANDLERS = {{PaymentCompleted: on_paid, PaymentRefunded: on_refunded}}
''')
""",
            "nobody is told",
        ),
        Wrong(
            f"""
{MINE}
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

    def tried(self, bench: Bench, loyalty: Guest) -> Verdict:
        order = trials.one_order(bench.shop, trials.NOWHERE)
        seen = seen_of(bench, order)
        name = seen.named([order])
        if seen.said[order]["PointsAwarded"] and not any(points > 0 for points in seen.bookings[order]):
            return wrong(f"The row of {name} is gone, as if it had never had points. Rows are only added.")
        if not none_kept(seen).holds and sum(seen.bookings[order]) > 0:
            return wrong(f"{name} was paid and refunded, and keeps its points. Which event tells of the refund?")
        if not each_said(seen).holds and not seen.said[order]["PointsTakenBack"]:
            return wrong(
                f"The points of {name} are taken back, and nobody is told: no PointsTakenBack is in the topic."
            )
        if broken := first_broken(paid_once(seen), none_kept(seen), each_said(seen)):
            return wrong(f"An order was paid and refunded: {broken}.")
        return right(f"{name} was paid and refunded: its points came and went, and both was said.")


class SameTrace(Mend):
    """Propagation of the trace context."""

    name = "same-trace"
    title = "Loyalty's events belong to the trace of their order"
    tip = (
        "The outbox has a column traceparent, and the connector puts it into a header. current_traceparent() of "
        "labservices.telemetry.tracing gives the one of the span that runs now, which is that of your handler."
    )
    answer = f"""
{MINE}
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
        "What runs your handler has read the record's header, and has begun a span in that trace. You hand it on "
        "through the row's column, and whoever reads PointsAwarded one day appears below you in the same picture."
    )
    mistakes = (
        Wrong(
            f"""
{MINE}
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
{MINE}
loyalty.edit('''
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) VALUES (%s, 'loyalty', %s, %s, %s)",
        [uuid4(), event.order_id, kind, Jsonb(payload)],
''', '''
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, traceparent)"
        " VALUES (%s, 'loyalty', %s, %s, %s, %s)",
        [uuid4(), event.order_id, kind, Jsonb(payload), f"00-{{uuid4().hex}}-{{uuid4().hex[:16]}}-01"],
''')
""",
            "another trace",
        ),
    )

    def tried(self, bench: Bench, loyalty: Guest) -> Verdict:
        order = trials.one_order(bench.shop)
        seen = seen_of(bench, order)
        if not seen.traceparents[order]:
            return wrong(f"{seen.named([order])} was paid, and no event of loyalty's came.")
        if not all(seen.traceparents[order]):
            return wrong("The record has no traceparent: its column in the outbox is empty.")
        if broken := first_broken(one_trace(seen)):
            return wrong(f"There is a traceparent, but {broken}. Take what came with the event, don't make one up.")
        return right("The record names the trace in which the order began.")


class TellTheNumber(Mend):
    """A metric that is correct after a restart."""

    name = "tell-the-number"
    title = "A metric that is still true after a restart"
    tip = (
        "A process loses its counters when it ends. labservices.telemetry.gauges.Gauge(name, documentation, labels, "
        "statement) queries the database at each scrape instead. Put yours into GAUGES = (...,)."
    )
    answer = f"""
{MINE}
loyalty.edit("from prometheus_client import Gauge", "from labservices.telemetry.gauges import Gauge")
loyalty.edit('POINTS = Gauge("loyalty_points", "Points that customers hold")', '''
GAUGES = (Gauge("loyalty_points", "Points that customers hold", (), "SELECT coalesce(sum(points), 0) FROM points"),)
''')
loyalty.edit("    POINTS.inc(points)", "")
"""
    why = (
        "A counter may begin at 0 again: rate() knows how to read that, and asks only how quickly it grows. A level, "
        "such as points or stock, has no business in a process's memory. The draft has one more fault there: it counts "
        "before the commit, so what is rolled back is counted, too."
    )
    mistakes = (
        Wrong(
            f"""
{MINE}
loyalty.edit("from prometheus_client import Gauge", "from prometheus_client import Counter")
loyalty.edit('Gauge("loyalty_points"', 'Counter("loyalty_points"')
""",
            "restart",
        ),
        Wrong(
            f"""
{MINE}
loyalty.edit("from prometheus_client import Gauge", "from labservices.telemetry.gauges import Gauge")
loyalty.edit('POINTS = Gauge("loyalty_points", "Points that customers hold")', '''
GAUGES = (Gauge("loyalty_points", "Points that customers hold", (), "SELECT count(*) FROM points"),)
''')
loyalty.edit("    POINTS.inc(points)", "")
""",
            "rows",
        ),
    )

    def tried(self, bench: Bench, loyalty: Guest) -> Verdict:
        order = trials.one_order(bench.shop)
        settle(bench.lab, bench.look, [order])
        loyalty.start()
        seen = seen_of(bench, order)
        rule = metric_is_true(bench.look, seen)
        if rule.holds:
            return right("The service was started anew, and its metric tells the sum of all points.")
        rows = len(bench.look.sql(NAME, "SELECT FROM points"))
        if bench.look.metric(NAME, "loyalty_points") == rows:
            return wrong(f"{rule.says}. You tell the number of rows.")
        return wrong(f"After a restart {rule.says}. Where does the number come from when a process begins?")


class OneTransaction(Mend):
    """Points and event in one transaction."""

    name = "one-transaction"
    title = "Points and event: both or neither"
    tip = (
        "The handler is called inside a transaction, which is committed after it. What ends it before the event is "
        "written?"
    )
    answer = f"""
{MINE}
loyalty.edit("    db.commit()  # so that the customer sees them at once", "")
"""
    why = (
        "One line, and the outbox was no outbox: two transactions, and a gap between them in which a process can die "
        "or a database can refuse. Nothing shows it until that happens. It even defeats an inbox: with the "
        "id committed "
        "and the event not, the second try finds the id, and stops."
    )
    mistakes = (
        Wrong(
            f"""
{MINE}
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
            "says what it did not do",
        ),
        Wrong(
            f"""
{MINE}
loyalty.edit('''
    say(db, "PointsAwarded", event, points)
''', '''
    try:
        say(db, "PointsAwarded", event, points)
    except Exception:
        pass  # the points are there, which is what counts
''')
""",
            "does what it does not say",
        ),
    )

    def tried(self, bench: Bench, loyalty: Guest) -> Verdict:
        orders = []
        for table in ("outbox", "points"):
            with trials.refused_once(bench.shop, bench.look, table) as order:
                booked, said = trials.left_behind(bench.look, order)
            orders.append(order)
            if booked:
                return wrong(
                    "The outbox refused its row, and the points were there all the same: it does what it does not say."
                )
            if said:
                return wrong(
                    "The points were refused, and the event was there all the same: it says what it did not do."
                )
            settle(bench.lab, bench.look, orders)  # otherwise the next table would reject this order's retry
        seen = seen_of(bench, *orders)
        if broken := first_broken(paid_once(seen), each_said(seen)):
            return wrong(f"A table refused a row for a moment, and afterwards there is {broken}.")
        return right("While a table refused its row, neither points nor event were there; afterwards there were both.")


class TheReferee(Mend):
    """All fixes at once."""

    name = "the-referee"
    title = "All five rules, with duplicates, refunds, a crash and a database that refuses"
    tip = (
        "Each of the five changes holds by itself. Now think of them together: a PaymentRefunded can come twice, too, "
        "and a second handler needs all that the first one has."
    )
    answer = f"""
{MINE}
with look.connect("{NAME}") as db:
    _ = db.execute("{INBOX}")
loyalty.write('''
{WHOLE}
''')
"""
    why = (
        "Fifty lines, and they are what each of the four services does: the inbox first, the change, the outbox, all "
        "in one transaction; the way back as carefully as the way on; the trace handed on; the level asked of the "
        "database. What they have beyond it (guards for each effect, tombstones, parking and dead letters) "
        "you know by now."
    )
    mistakes = (
        Wrong(
            f"""
{MINE}
with look.connect("{NAME}") as db:
    db.execute("{INBOX}")
loyalty.write('''
{WHOLE}
''')
loyalty.edit('''
def on_refunded(db, event, event_id):
    if is_new(db, event_id):
''', '''
def on_refunded(db, event, event_id):
    if True:
''')
""",
            "more points taken back than were given",
        ),
        Wrong(
            f"""
{MINE}
with look.connect("{NAME}") as db:
    db.execute("{INBOX}")
loyalty.write('''
{WHOLE}
''')
loyalty.edit(", PaymentRefunded: on_refunded}}", "}}")
""",
            "points all the same",
        ),
    )

    def tried(self, bench: Bench, loyalty: Guest) -> Verdict:
        orders = trials.all_at_once(bench.lab, bench.shop, bench.look, loyalty)
        rules = judge(bench.look, orders)
        broken = [f"{rule.name}: {rule.says}" for rule in rules if not rule.holds]
        if broken:
            return wrong(f"{len(rules) - len(broken)} of {len(rules)} rules hold. Not these: {'; '.join(broken)}.")
        return right(f"{len(orders)} orders, and all {len(rules)} rules hold. Loyalty is a part of the saga.")


EXERCISES = (OnceOnly(), GiveBack(), SameTrace(), TellTheNumber(), OneTransaction(), TheReferee())
