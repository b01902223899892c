"""The exercises of notebook 06."""

from __future__ import annotations

from typing import Any

from labkit.errors import QueryFailed
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.building.relay_the_rows import RelayTheRows
from labkit.exercises.saga.crashes import (
    create_ghost_order,
    create_lost_order,
    publish_lost_order,
    published_orders,
    undo_ghost_order,
)
from labkit.waiting import wait_until
from labservices.contract import TERMINAL

UNPUBLISHED_ORDERS = """
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
    title = "The order service crashed between its two writes: before or after its commit?"
    kind = "diagnosis"
    level = 1
    minutes = 3
    hints = (
        "Two writes, two traces: a row in the table orders, and a record in order.events. Which of them exists?",
        'look.db.rows("order", "SELECT status FROM orders WHERE order_id = %(order)s", order=given.order), and '
        'look.kafka.records(given.order, "order.events").',
        "The table is empty, and the topic is not: the record was sent, and the commit did not happen. The answer "
        "is 'before' or 'after'.",
    )
    answer = 'answer = "before"'
    why = (
        "The record exists and the row does not: the record was sent before the commit, and the commit did not "
        "happen. If the service had crashed after the commit, the row would exist and the record would not. There is "
        "no other case, and no order of the two writes avoids both."
    )
    mistakes = (
        Wrong('answer = "after"', "row"),
        Wrong("answer = True", "'before' or 'after'"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        ghost = create_ghost_order(bench)
        return "While Grace placed her order (given.order), the order service crashed once. It is running again.", {
            "order": ghost
        }

    def check(self, bench: Bench, answer: Any) -> Verdict:
        answer = str(answer).strip().casefold()
        if answer not in ("before", "after"):
            return wrong("The answer is 'before' or 'after'.")
        row = bench.look.db.rows("order", "SELECT 1 FROM orders WHERE order_id = %(order)s", order=bench.given.order)
        record = bench.given.order in published_orders(bench)
        if answer == "before" and record and not len(row):
            return right("Kafka has the record, but the database has no row: the commit did not happen.")
        return wrong("After the commit the row would exist. Look for given.order in the table orders.")

    def cleanup(self, bench: Bench) -> str:
        return undo_ghost_order(bench, bench.given.order)


class FindTheLost(Exercise):
    """The outbox makes a missing event visible."""

    name = "find-the-lost"
    title = "Write the SQL that finds every order whose OrderCreated was never written"
    kind = "query"
    level = 2
    minutes = 4
    hints = (
        "Every order should have a row OrderCreated in the outbox. Which orders have none, whatever their status?",
        "WHERE NOT EXISTS (SELECT ...) with a condition on aggregateid and on type.",
        "It begins:\n    SELECT order_id FROM orders WHERE NOT EXISTS (SELECT FROM outbox WHERE ...",
    )
    answer = '''
        answer = """
            SELECT order_id FROM orders
            WHERE NOT EXISTS (SELECT FROM outbox
                              WHERE aggregateid = order_id AND type = 'OrderCreated')
        """
    '''
    why = (
        "You can ask this question only because rows and events are in one database. With dual writes there is "
        "nothing to compare with: no table records whether an event was sent. Neither the status nor the age of an "
        "order helps; a slow order looks just like a lost one."
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
        order = create_lost_order(bench)
        bench.shop.cancel(order)
        return "One order is complete; another one was lost, and its cancel has no effect.", {"order": order}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            bench.look.db.rows("order", str(answer))  # first read-only, so that the query can change nothing
        except QueryFailed as error:
            return wrong(f"PostgreSQL rejects the query: {error.problem}")
        with bench.look.db.connect("order") as db:
            db.execute(PROBES)
            cursor = db.execute(str(answer).encode())
            columns = [column.name for column in cursor.description or ()]
            found = [dict(zip(columns, row, strict=True)) for row in cursor]
            lost = {row[0] for row in db.execute(UNPUBLISHED_ORDERS.encode())}
            db.rollback()
        if "order_id" not in columns:
            return wrong("Show the column order_id.")
        named = {str(row["order_id"]) for row in found}
        if named == lost:
            return right("Exactly these orders, whatever their status.")
        if named - lost:
            return wrong(
                "Some of these have their OrderCreated. The status does not help: check the outbox for the row "
                "OrderCreated."
            )
        return wrong("Some are missing. An order can have other events in the outbox, and still lack its OrderCreated.")

    def cleanup(self, bench: Bench) -> str:
        return publish_lost_order(bench, bench.given.order)


class WriteWhatIsMissing(Exercise):
    """The outbox row that the service failed to write."""

    name = "write-what-is-missing"
    title = "An order's event was lost: write the outbox row that is missing"
    kind = "query"
    level = 3
    minutes = 12
    hints = (
        "Compare with the outbox row of an order that works: which columns are constant, and which come from the "
        "order?",
        "INSERT INTO outbox (...) SELECT gen_random_uuid(), 'order', order_id, 'OrderCreated', ... FROM orders "
        "WHERE order_id = %s. to_jsonb(orders) is the whole row as JSON; readers ignore unknown fields.",
        'It begins:\n    with look.db.connect("order") as db:\n        db.execute("INSERT INTO outbox (id, '
        "aggregatetype, aggregateid, type, payload, dataschema, source) SELECT ...",
    )
    answer = '''
        with look.db.connect("order") as db:
            db.execute("""
                INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
                SELECT gen_random_uuid(), 'order', order_id, 'OrderCreated', to_jsonb(orders),
                       'urn:sagalab:OrderCreated:1.0', 'urn:sagalab:order'
                FROM orders WHERE order_id = %s""", [given.order])
        shop.follow(given.order)
    '''
    why = (
        "Only that one row was missing: Debezium publishes it, inventory handles the order, and the chain completes. "
        "(If the order was cancelled meanwhile, inventory has recorded that and rejects the order, which ends the "
        "chain, too.) You could write the row because you knew what was lost. Usually you do not know."
    )
    mistakes = (
        Wrong(
            """
            with look.db.connect("order") as db:
                db.execute(
                    "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source) "
                    "VALUES (gen_random_uuid(), 'order', %s, 'OrderPlaced', '{}', "
                    "'urn:sagalab:OrderPlaced:1.0', 'urn:sagalab:order')", [given.order])
            """,
            "OrderPlaced",
        ),
        Wrong(
            """
            with look.db.connect("order") as db:
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
        return "given.order is committed, but no service has received its event.", {"order": create_lost_order(bench)}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        query = "SELECT type FROM outbox WHERE aggregateid = %(order)s"
        published = set(bench.look.db.rows("order", query, order=bench.given.order)["type"])
        if "OrderCreated" in published:
            bench.look.kafka.record(bench.given.order, "OrderCreated")
            return self._final_verdict(bench)
        if others := published - {"OrderCancelRequested", "OrderTimedOut"}:
            return wrong(f"{others.pop()} is a type that no service knows. Which event does inventory wait for?")
        if "OrderCancelRequested" in published:
            return wrong(
                "The order stays CANCELLING forever: no service received it, so no service answers. Write the "
                "missing row."
            )
        return untouched("There is no row OrderCreated with given.order in the order service's outbox.")

    def _final_verdict(self, bench: Bench) -> Verdict:
        def find_verdict() -> Verdict | None:
            order = bench.shop.order(bench.given.order)
            for letter in bench.lab.dead_letters.all():
                if letter.order_id == order.order_id:
                    why = letter.error.rpartition("InvalidRecord: ")[2][:200]
                    return wrong(f"{letter.service} can't read your payload: {why}. Run cleanup and setup again.")
            return right(f"One row, and the order is {order.status}.") if order.status in TERMINAL else None

        verdict = wait_until(find_verdict, 30, what="the order to end")
        assert verdict is not None  # wait_until raises instead
        return verdict

    def cleanup(self, bench: Bench) -> str:
        return publish_lost_order(bench, bench.given.order)


class UndoTheGhost(Exercise):
    """The effects of an invented event need a compensating event."""

    name = "undo-the-ghost"
    title = "Goods, money and a carrier are reserved for an order that does not exist: get all three undone"
    kind = "query"
    level = 3
    minutes = 18
    hints = (
        "No service may change another one's tables. Which event makes all three undo their work?",
        "A row OrderCancelRequested in the order service's outbox. Its payload is that of OrderCreated, which the "
        "record still has, plus a reason.",
        'It begins:\n    payload = look.kafka.record(given.order, "OrderCreated").record.value.decode()',
    )
    answer = '''
        payload = look.kafka.record(given.order, "OrderCreated").record.value.decode()
        with look.db.connect("order") as db:
            db.execute("""
                INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
                VALUES (gen_random_uuid(), 'order', %s, 'OrderCancelRequested',
                        %s::jsonb || '{"reason": "never_committed"}',
                        'urn:sagalab:OrderCancelRequested:1.0', 'urn:sagalab:order')""",
                [given.order, payload])
    '''
    why = (
        "One event, and three services undo their work: released, refunded, cancelled. The compensation existed "
        "already; it only needed a request. The order service has no row from which to request it, and its dead "
        "letters stay until an operator handles them: that is the cost of an event without a commit."
    )
    mistakes = (
        Wrong(
            """
            payload = look.kafka.record(given.order, "OrderCreated").record.value.decode()
            with look.db.connect("order") as db:
                db.execute(
                    "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source) "
                    "VALUES (gen_random_uuid(), 'order', %s, 'OrderCancelled', %s, "
                    "'urn:sagalab:OrderCancelled:1.0', 'urn:sagalab:order')", [given.order, payload])
            """,
            "no service acts",
        ),
        Wrong(
            """
            payload = look.kafka.record(given.order, "OrderCreated").record.value.decode()
            with look.db.connect("order") as db:
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
        ghost = create_ghost_order(bench)
        return "given.order is an order that was never committed, but the other services have handled it.", {
            "order": ghost
        }

    def check(self, bench: Bench, answer: Any) -> Verdict:
        ghost = bench.given.order
        query = "SELECT id::text AS event, type FROM outbox WHERE aggregateid = %(order)s"
        published = dict(bench.look.db.rows("order", query, order=ghost)[["type", "event"]].values.tolist())
        if not published:
            return untouched("All three are still reserved, and no event requests a cancel.")
        if not published.keys() & {"OrderCancelRequested", "OrderTimedOut"}:
            return wrong(
                f"{next(iter(published))} reports a result, and no service acts on it. Which event requests an undo?"
            )

        def all_undone() -> bool:
            dead = {letter.service for letter in bench.lab.dead_letters.all() if letter.order_id == ghost} - {"order"}
            return bool(dead) or not self._held(bench)

        wait_until(all_undone, 30, what="the three services to undo their work")
        if held := self._held(bench):
            error = next(x.error for x in bench.lab.dead_letters.all() if x.order_id == ghost and x.service != "order")
            why = error.rpartition("InvalidRecord: ")[2][:200]
            return wrong(f"{', '.join(held)} can't read your event: {why}. Run cleanup and setup again.")
        return right("Released, refunded, cancelled: each by the service that did the work.")

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
        return undo_ghost_order(bench, bench.given.order)


EXERCISES: tuple[Exercise, ...] = (
    BeforeOrAfter(),
    FindTheLost(),
    WriteWhatIsMissing(),
    UndoTheGhost(),
    RelayTheRows(),
)
