"""The exercises of notebook 06."""

from __future__ import annotations

import uuid
from typing import Any

from labkit.client.shop import TERMINAL
from labkit.errors import QueryFailed
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.saga.crashes import find_again, lay_to_rest, lose_an_order, make_a_ghost, spoken_of
from labkit.waiting import wait_until

NOBODY_HEARD_OF = """
    SELECT order_id::text FROM orders
    WHERE NOT EXISTS (SELECT FROM outbox WHERE aggregateid = order_id AND type = 'OrderCreated')
"""
# Two orders, rolled back after the check: one with its OrderCreated that hangs, one that ended without it.
PROBES = """
    WITH made AS (
        INSERT INTO orders (order_id, customer_id, destination, items, total_cents, currency, status, version)
        VALUES (gen_random_uuid(), 'probe', 'rome', '[]', 0, 'EUR', 'PENDING', 1),
               (gen_random_uuid(), 'probe', 'rome', '[]', 0, 'EUR', 'COMPLETED', 1)
        RETURNING order_id, status)
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
    SELECT gen_random_uuid(), 'order', order_id,
           CASE status WHEN 'PENDING' THEN 'OrderCreated' ELSE 'OrderCompleted' END,
           '{}', 'urn:sagalab:Probe:1.0', 'urn:sagalab:probe' FROM made
"""


class BeforeOrAfter(Exercise):
    """The remaining write shows when the service died."""

    name = "before-or-after"
    title = "The order service died between its two writes: before or after its commit?"
    tip = "Which of the two is there: the order's row in the database, or its record in order.events?"
    answer = 'answer = "before"'
    why = (
        "The record is there and the row isn't: it was sent before the commit, and the commit never came. Had it died "
        "after the commit, the row would be there and the record would not. Nothing in between is possible, and no "
        "order of the two writes avoids both."
    )
    mistakes = (
        Wrong('answer = "after"', "row"),
        Wrong("answer = True", "'before' or 'after'"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        ghost = make_a_ghost(bench)
        return "While Grace ordered (given.order), the order service died once. It runs again.", {"order": ghost}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if answer not in ("before", "after"):
            return wrong("The answer is 'before' or 'after'.")
        row = bench.look.sql("order", "SELECT 1 FROM orders WHERE order_id = %(order)s", order=bench.given.order)
        record = bench.given.order in spoken_of(bench)
        if answer == "before" and record and not len(row):
            return right("Kafka has the record, and the database has no row: the commit never came.")
        return wrong("After the commit its row would be there. Look for given.order in the table orders.")

    def cleanup(self, bench: Bench) -> str:
        return lay_to_rest(bench, bench.given.order)


class SameKeyAgain(Exercise):
    """A client's retry cannot restore a lost event."""

    name = "same-key-again"
    title = "The customer sends the lost order again with the same Idempotency-Key: how many OrderCreated are there?"
    tip = "The key was committed together with the order. What does the service do when it finds the key?"
    answer = 'answer = sum(view.record.type == "OrderCreated" for view in look.records(given.order))'
    why = (
        "None. The key was committed with the order, so the service finds the order that it has already made, answers "
        "200, and has nothing to say. A client that does everything right, and tries again as it should, can't mend "
        "what the server has lost. With an outbox the event would be there since the first try."
    )
    mistakes = (
        Wrong("answer = 1", "finds"),
        Wrong("answer = 2", "finds"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        key = str(uuid.uuid4())
        order = lose_an_order(bench, key)
        again = bench.shop.place_order("grace", "rome", {"rooibos": 1}, key=key)
        assert again.order_id == order  # the key was committed with the order
        return (
            "The order service died after its commit, and Grace got no answer. She sent the same request with the same "
            "key again, and was answered 200, with given.order.",
            {"order": order},
        )

    def check(self, bench: Bench, answer: Any) -> Verdict:
        told = sum(view.record.type == "OrderCreated" for view in bench.look.records(bench.given.order))
        if answer == told:
            return right("The key finds the order, and the order needs no second event, or so the service believes.")
        return wrong(
            "The service finds the key, and with it the order. Does it publish anything then? Look into the topic."
        )

    def cleanup(self, bench: Bench) -> str:
        return find_again(bench, bench.given.order)


class FindTheLost(Exercise):
    """The outbox makes a missing event visible."""

    name = "find-the-lost"
    title = "Write the SQL that finds every order whose OrderCreated was never written"
    tip = "Every order should have a row OrderCreated in the outbox. NOT EXISTS (SELECT ...) finds those without."
    answer = '''
        answer = """
            SELECT order_id FROM orders
            WHERE NOT EXISTS (SELECT FROM outbox
                              WHERE aggregateid = order_id AND type = 'OrderCreated')
        """
    '''
    why = (
        "The question can be asked at all only because rows and events lie in one database. Under the dual write there "
        "is nothing to compare with: whether an event was sent stands nowhere. Neither the status nor the age of an "
        "order tells; a slow one looks just like a lost one."
    )
    mistakes = (
        Wrong("answer = \"SELECT order_id FROM orders WHERE status = 'PENDING'\"", "status"),
        Wrong(
            'answer = "SELECT order_id FROM orders WHERE NOT EXISTS (SELECT FROM outbox WHERE aggregateid = order_id)"',
            "other events",
        ),
        Wrong('answer = "SELECT count(*) FROM orders"', "order_id"),
        Wrong('answer = "SELECT order_id FROM orders JOIN events USING (order_id)"', "PostgreSQL"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.shop.follow(bench.shop.place_order("ada", "lisbon", {"sencha": 1}))
        order = lose_an_order(bench)
        bench.shop.cancel(order)
        return "One order is well, and one was lost and is cancelled in vain.", {"order": order}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            bench.look.sql("order", str(answer))  # first read-only, so that the query can change nothing
        except QueryFailed as error:
            return wrong(f"PostgreSQL does not take it: {error.problem}")
        with bench.look.connect("order") as db:
            db.execute(PROBES)
            cursor = db.execute(str(answer).encode())
            columns = [column.name for column in cursor.description or ()]
            found = [dict(zip(columns, row, strict=True)) for row in cursor]
            lost = {row[0] for row in db.execute(NOBODY_HEARD_OF.encode())}
            db.rollback()
        if "order_id" not in columns:
            return wrong("Show the column order_id.")
        named = {str(row["order_id"]) for row in found}
        if named == lost:
            return right("These, and no others, whatever their status.")
        if named - lost:
            return wrong("Some of these were told of. A status doesn't tell: ask the outbox for the row OrderCreated.")
        return wrong("Some are missing. An order can have other events in the outbox, and lack its OrderCreated.")

    def cleanup(self, bench: Bench) -> str:
        return find_again(bench, bench.given.order)


class WriteWhatIsMissing(Exercise):
    """The outbox row that the service failed to write."""

    name = "write-what-is-missing"
    title = "An order's event was lost: write the outbox row that is missing"
    tip = (
        "INSERT INTO outbox ... SELECT ... FROM orders WHERE order_id = %s. The payload may hold more than the event "
        "needs, since readers ignore unknown fields: to_jsonb(orders) is all of the order's row."
    )
    answer = '''
        with look.connect("order") as db:
            db.execute("""
                INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
                SELECT gen_random_uuid(), 'order', order_id, 'OrderCreated', to_jsonb(orders),
                       'urn:sagalab:OrderCreated:1.0', 'urn:sagalab:order'
                FROM orders WHERE order_id = %s""", [given.order])
        shop.follow(given.order)
    '''
    why = (
        "That one row is all that was missing: Debezium makes a record of it, inventory hears of the order, and the "
        "chain runs to its end. (If the order was called off meanwhile, inventory remembers that and says no, which "
        "ends the chain, too.) You could write it since you knew what was lost. Mostly nobody does."
    )
    mistakes = (
        Wrong(
            """
            with look.connect("order") as db:
                db.execute(
                    "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source) "
                    "VALUES (gen_random_uuid(), 'order', %s, 'OrderPlaced', '{}', "
                    "'urn:sagalab:OrderPlaced:1.0', 'urn:sagalab:order')", [given.order])
            """,
            "OrderPlaced",
        ),
        Wrong(
            """
            with look.connect("order") as db:
                db.execute(
                    "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source) "
                    "VALUES (gen_random_uuid(), 'order', %s, 'OrderCreated', '{}', "
                    "'urn:sagalab:OrderCreated:1.0', 'urn:sagalab:order')", [given.order])
            """,
            "payload",
        ),
        Wrong("shop.cancel(given.order)", "CANCELLING"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        return "given.order is committed, and nobody has heard of it.", {"order": lose_an_order(bench)}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        query = "SELECT type FROM outbox WHERE aggregateid = %(order)s"
        said = set(bench.look.sql("order", query, order=bench.given.order)["type"])
        if "OrderCreated" in said:
            bench.look.record(bench.given.order, "OrderCreated")
            return self._what_came_of_it(bench)
        if others := said - {"OrderCancelRequested", "OrderTimedOut"}:
            return wrong(f"{others.pop()} is a type that no service knows. Which event does inventory wait for?")
        if "OrderCancelRequested" in said:
            return wrong("Now it is CANCELLING for ever: nobody was asked, so nobody answers. Write the missing row.")
        return untouched("There is no row OrderCreated with given.order in the order service's outbox.")

    def _what_came_of_it(self, bench: Bench) -> Verdict:
        def came() -> Verdict | None:
            order = bench.shop.order(bench.given.order)
            for letter in bench.lab.dead_letters():
                if letter.order_id == order.order_id:
                    why = letter.error.rpartition("InvalidRecord: ")[2][:200]
                    return wrong(f"{letter.service} can't read your payload: {why}. Run cleanup and setup again.")
            return right(f"One row, and the order is {order.status}.") if order.status in TERMINAL else None

        verdict = wait_until(came, 30, what="the end of the order")
        assert verdict is not None  # wait_until raises instead
        return verdict

    def cleanup(self, bench: Bench) -> str:
        return find_again(bench, bench.given.order)


class UndoTheGhost(Exercise):
    """The effects of an invented event need a compensating event."""

    name = "undo-the-ghost"
    title = "Goods, money and a carrier are held for an order that does not exist: let all three be undone"
    tip = (
        "No service may reach into another's tables, and you needn't either: each of the three undoes its work when "
        "it hears OrderCancelRequested. Its payload is that of OrderCreated (the record has it), and a reason."
    )
    answer = '''
        payload = look.record(given.order, "OrderCreated").record.value.decode()
        with look.connect("order") as db:
            db.execute("""
                INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
                VALUES (gen_random_uuid(), 'order', %s, 'OrderCancelRequested',
                        %s::jsonb || '{"reason": "never_committed"}',
                        'urn:sagalab:OrderCancelRequested:1.0', 'urn:sagalab:order')""",
                [given.order, payload])
    '''
    why = (
        "One event, and three services undo what they did: released, refunded, cancelled. The compensation was there "
        "already, it only needed somebody to ask for it. The order service itself has no row to ask from, and "
        "its dead letters stay until somebody decides about them: that is what an invented event costs."
    )
    mistakes = (
        Wrong(
            """
            payload = look.record(given.order, "OrderCreated").record.value.decode()
            with look.connect("order") as db:
                db.execute(
                    "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source) "
                    "VALUES (gen_random_uuid(), 'order', %s, 'OrderCancelled', %s, "
                    "'urn:sagalab:OrderCancelled:1.0', 'urn:sagalab:order')", [given.order, payload])
            """,
            "nobody acts",
        ),
        Wrong(
            """
            payload = look.record(given.order, "OrderCreated").record.value.decode()
            with look.connect("order") as db:
                db.execute(
                    "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source) "
                    "VALUES (gen_random_uuid(), 'order', %s, 'OrderCancelRequested', %s, "
                    "'urn:sagalab:OrderCancelRequested:1.0', 'urn:sagalab:order')", [given.order, payload])
            """,
            "reason",
        ),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        ghost = make_a_ghost(bench)
        return "given.order is an order that was never committed, and everybody has worked for it.", {"order": ghost}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        ghost = bench.given.order
        query = "SELECT id::text AS event, type FROM outbox WHERE aggregateid = %(order)s"
        said = dict(bench.look.sql("order", query, order=ghost)[["type", "event"]].values.tolist())
        if not said:
            return untouched("Everything is still held, and nobody has said that it should not be.")
        if not said.keys() & {"OrderCancelRequested", "OrderTimedOut"}:
            return wrong(f"{next(iter(said))} tells what is over, and nobody acts upon it. Which event asks to undo?")

        def settled() -> bool:
            dead = {letter.service for letter in bench.lab.dead_letters() if letter.order_id == ghost} - {"order"}
            return bool(dead) or not self._held(bench)

        wait_until(settled, 30, what="the three services to undo their work")
        if held := self._held(bench):
            error = next(x.error for x in bench.lab.dead_letters() if x.order_id == ghost and x.service != "order")
            why = error.rpartition("InvalidRecord: ")[2][:200]
            return wrong(f"{', '.join(held)} can't read your event: {why}. Run cleanup and setup again.")
        return right("Released, refunded, cancelled: each by the service that had done it.")

    def _held(self, bench: Bench) -> list[str]:
        """Return the services that still hold something for the ghost order."""
        ghost = bench.given.order
        done = {
            "inventory": [one["status"] for one in bench.shop.reservations(ghost)] == ["RELEASED"],
            "payment": [one["status"] for one in bench.shop.payments(ghost)] == ["REFUNDED"],
            "shipping": [one["status"] for one in bench.shop.shipments(ghost)] == ["CANCELLED"],
        }
        return [service for service, is_done in done.items() if not is_done]

    def cleanup(self, bench: Bench) -> str:
        return lay_to_rest(bench, bench.given.order)


EXERCISES: tuple[Exercise, ...] = (
    BeforeOrAfter(),
    SameKeyAgain(),
    FindTheLost(),
    WriteWhatIsMissing(),
    UndoTheGhost(),
)
