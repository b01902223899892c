"""The exercises of notebook 04."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

from labkit.errors import Conflict
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.waiting import wait_until

CHARGES = "SELECT effect, amount_cents FROM ledger_entries WHERE order_id = %(order)s ORDER BY at"
COMMAND = """
    SELECT id::text AS event_id, xmin::text AS written_by FROM outbox
    WHERE aggregateid = %(order)s AND type = 'InventoryReserved'
"""
PAID = "SELECT id FROM outbox WHERE aggregateid = %(order)s AND type = 'PaymentCompleted'"
WISH = ("paris", [("silver-needle", 2)])
"""The destination and the items of leslie's order."""
BALANCE = "SELECT balance_cents FROM accounts WHERE customer_id = %(customer)s"


class CountTheCopies(Exercise):
    """Duplicates add records to the topics, but no rows to the inboxes."""

    name = "count-the-copies"
    title = "A completed order was sent again twice. How many records and how many inbox rows exist?"
    tip = (
        "A completed order has five events. How many records does each have now? A service writes an inbox row if it "
        "acts on the event: look.deliveries(given.order) shows which services do, and how often."
    )
    answer = "answer = dict(records=15, inbox_rows=8)"
    why = (
        "Five events, three records each: 15. Inbox rows: OrderCreated concerns one service, InventoryReserved two, "
        "PaymentCompleted two, ShipmentScheduled one, OrderCompleted two, so 8, however often the records arrive. "
        "This is what 'exactly once' means: the delivery is not single, but the effect is."
    )
    mistakes = (
        Wrong("answer = dict(records=15, inbox_rows=24)", "a second time"),
        Wrong("answer = dict(records=10, inbox_rows=8)", "twice more"),
        Wrong("answer = dict(records=15, inbox_rows=5)", "two services"),
        Wrong("answer = 15", "dict"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = bench.shop.follow(bench.shop.place_order("frances", "berlin", {"sencha": 1}))
        bench.look.wait_for_rest(order)
        for _ in range(2):
            bench.lab.resend(order.order_id)
        bench.look.kafka.take(15, order)
        return f"{order}, and sent again twice", {"order": order.order_id}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, dict) or set(answer) != {"records", "inbox_rows"}:
            return wrong("The answer is a dict of two numbers: dict(records=..., inbox_rows=...).")
        deliveries = bench.look.deliveries(bench.given.order)
        records = int(deliveries.records.sum())
        rows = sum(n for n in deliveries.drop(columns=["type", "records"]).to_numpy().flatten() if n != "-")
        if answer == {"records": records, "inbox_rows": rows}:
            return right(f"{records} records, and {rows} inbox rows, as many as after the first time.")
        if answer["records"] != records:
            return wrong("Five events were published once, and then all of them twice more. How many records is that?")
        if answer["inbox_rows"] > rows:
            return wrong("An id that is already in an inbox is not written a second time: the existing row stops it.")
        return wrong(
            "Not one row for each event: InventoryReserved, for example, concerns two services, each with its own "
            "inbox."
        )


class FindTheCopies(Exercise):
    """A duplicate is recognised by its id."""

    name = "find-the-copies"
    title = "Some of six orders were sent again. Which ones?"
    tip = (
        "look.kafka.records(given.orders) has all their records; each has record.key and "
        "record.headers['ce_id']. Count."
    )
    answer = """
        from collections import Counter
        records = [view.record for view in look.kafka.records(given.orders)]
        copies = Counter(record.headers["ce_id"] for record in records)
        answer = {record.key for record in records if copies[record.headers["ce_id"]] > 1}
    """
    why = (
        "A record that is sent again has another offset and another timestamp, but the same ce_id: the id was "
        "assigned once, when the row was written. That is why an inbox stores event ids and not offsets: an offset is "
        "a position in a topic, the id identifies the event."
    )
    mistakes = (
        Wrong("answer = set(given.orders)", "only once"),
        Wrong("answer = {given.orders[1]}", "more"),
        Wrong('answer = {"OrderCreated"}', "order ids"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        orders = [bench.shop.place_order("grace", "vienna", {"ceylon-high-grown": 1}) for _ in range(6)]
        ids = [bench.shop.follow(order).order_id for order in orders]
        bench.look.wait_for_rest(ids)
        for order_id in (ids[1], ids[4]):
            bench.lab.resend(order_id)
        bench.look.kafka.take(40, ids)
        return "given.orders holds the ids of six completed orders.", {"orders": ids}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        records = [view.record for view in bench.look.kafka.records(bench.given.orders)]
        copies = Counter(record.headers.get("ce_id") for record in records)
        again = {str(record.key) for record in records if copies[record.headers.get("ce_id")] > 1}
        named = {answer} if isinstance(answer, str) else set(answer) if isinstance(answer, set | list | tuple) else None
        named = {bench.shop.id(str(order)) for order in named or ()}
        if not named or not named <= set(bench.given.orders):
            return wrong("The answer is a set of order ids from given.orders.")
        if named == again:
            return right(f"{len(again)} orders: each of their events has two records with the same ce_id.")
        if named - again:
            return wrong("One of your orders was sent only once: no two of its records have the same ce_id.")
        return wrong("That one is correct, and there are more.")


class ThreeAnswers(Exercise):
    """An idempotency key identifies one intent; the body must match it."""

    name = "three-answers"
    title = "Which three status codes do three requests with the same Idempotency-Key get?"
    tip = (
        "The first request creates an order. The second is a repetition. The third requests a different order: is "
        "it new?"
    )
    answer = "answer = [201, 200, 409]"
    why = (
        "201: created. 200: the same order as before, and nothing new was created. 409: this key was used for a "
        "different request, so one of the two requests is a mistake, and the service does not guess which."
    )
    mistakes = (
        Wrong("answer = [201, 201, 201]", "second time"),
        Wrong("answer = [201, 409, 409]", "no conflict"),
        Wrong("answer = [201, 200, 200]", "different order"),
        Wrong("answer = [201, 200, 422]", "by itself"),
        Wrong("answer = [202, 200, 409]", "created"),
        Wrong("answer = [201, 202, 409]", "at once"),
        Wrong("answer = 201", "list"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, list | tuple) or len(answer) != 3:
            return wrong("The answer is a list of three status codes: [..., ..., ...].")
        answer = [int(code) if str(code).isdigit() else code for code in answer]
        key, codes = f"three-answers-{uuid.uuid4()}", []
        for quantity in (1, 1, 2):
            try:
                bench.shop.place_order("radia", "rome", {"oriental-beauty": quantity}, key=key)
                codes.append(bench.shop.last.answer.status_code if bench.shop.last else 0)
            except Conflict as refused:
                codes.append(refused.status)
        if answer == codes:
            return right(f"The lab has just run it: {', '.join(map(str, codes))}, and one order.")
        if answer[1] == 201:
            return wrong("201 means that something was created. What would be created the second time?")
        if answer[1] == 409:
            return wrong("The second request is identical: that is no conflict, it is a repetition.")
        if answer[0] != 201:
            return wrong("The first request creates an order. Which code means that something was created?")
        if answer[1] != 200:
            return wrong("The second request gets the existing order at once: which code means simply success?")
        if answer[2] == 422:
            return wrong("422 means that a request is invalid by itself. This one would be valid under another key.")
        return wrong(
            "The third request has the key of the first, but a different order. Would you answer that with success?"
        )


class SafeToRetry(Exercise):
    """A client that gets no answer must be able to retry."""

    name = "safe-to-retry"
    title = "Send leslie's order three times, and get one order"
    tip = "shop.place_order(..., key=...) sends an Idempotency-Key. What must be the same in all three requests?"
    answer = """
        from uuid import uuid4
        key = str(uuid4())
        for attempt in range(3):
            shop.place_order("leslie", "paris", {"silver-needle": 2}, key=key)
    """
    why = (
        "The client creates the key once, before the first attempt, and keeps it: the key stands for the customer's "
        "intention, not for the request. A client that creates a new key for each attempt gains nothing. A browser "
        "would create the key when it shows the form, so that even a second click has the same intention."
    )
    mistakes = (
        Wrong(
            """
            for attempt in range(3):
                shop.place_order("leslie", "paris", {"silver-needle": 2})
            """,
            "no key",
        ),
        Wrong(
            """
            from uuid import uuid4
            for attempt in range(3):
                shop.place_order("leslie", "paris", {"silver-needle": 2}, key=str(uuid4()))
            """,
            "its own key",
        ),
        Wrong(
            """
            from uuid import uuid4
            shop.place_order("leslie", "paris", {"silver-needle": 2}, key=str(uuid4()))
            """,
            "three times",
        ),
        Wrong(
            """
            from uuid import uuid4
            key = str(uuid4())
            for attempt in range(3):
                shop.place_order("leslie", "paris", {"silver-needle": 1}, key=key)
            """,
            "not hers",
        ),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        newest = next((order.order_id for order in bench.shop.orders(limit="1")), "")
        facts = {"before": newest, "repeated": self._repeated(bench)}
        return "The existing orders are recorded. The responses to leslie's requests get lost.", facts

    def check(self, bench: Bench, answer: Any) -> Verdict:
        new = [order for order in bench.shop.orders(customer_id="leslie") if order.order_id > bench.given.before]
        if not new:
            return untouched("leslie has placed no order since the setup.")
        query = "SELECT key FROM idempotency_keys WHERE order_id = ANY(%(orders)s::uuid[])"
        keys = len(bench.look.db.rows("order", query, orders=[order.order_id for order in new]))
        if len(new) > 1:
            why = "each request had its own key" if keys == len(new) else "they had no key"
            return wrong(f"Leslie gets {len(new)} parcels: {why}. (Run the setup again for another try.)")
        document = new[0].document
        if (document["destination"], [(line["sku"], line["quantity"]) for line in document["items"]]) != WISH:
            return wrong(
                "One order, but not hers: two packs of silver-needle, to paris. (Run the setup again for another try.)"
            )
        repeated = self._repeated(bench) - bench.given.repeated
        if repeated < 2:
            return wrong("One order, but it was not requested three times. Would your code be safe to run again?")
        return right(f"One order; {repeated} requests were answered with the existing order.")

    def _repeated(self, bench: Bench) -> int:
        return bench.look.metrics.value("order", "http_requests_total", method="POST", route="/orders", status="200")


class PastTheInbox(Exercise):
    """The inbox compares ids, so the same command under a new id passes it."""

    name = "past-the-inbox"
    title = "The inbox is on, the guards are off: get one order charged twice"
    tip = (
        "lab.resend keeps the ids, and the inbox knows them. Payment acts on InventoryReserved, a row in inventory's "
        "outbox. How did the lesson publish the same event under a new id?"
    )
    answer = '''
        with look.db.connect("inventory") as db:
            db.execute("""
                WITH gone AS (DELETE FROM outbox WHERE aggregateid = %s AND type = 'InventoryReserved' RETURNING *)
                INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
                SELECT gen_random_uuid(), aggregatetype, aggregateid, type, payload, dataschema, source
                FROM gone""", [given.order])
    '''
    why = (
        "An inbox compares ids, so it stops what the *relay* repeats. It can't know that two ids have the same "
        "intention. That happens when a producer is restored from a backup, when an operator sends a command again by "
        "hand, or when a retry creates a new message. The order's own state, and a unique key on the effect, stop "
        "these."
    )
    mistakes = (
        Wrong("lab.resend(given.order)", "same id"),
        Wrong(
            """
            lab.faults.on("payment", "inbox-off")
            lab.resend(given.order)
            from labkit import wait_until
            wait_until(lambda: len(look.db.rows(
                "payment", "SELECT 1 FROM ledger_entries WHERE order_id = %(order)s", order=given.order)) > 1)
            """,
            "while it is on",
        ),
        Wrong(
            '''
            with look.db.connect("payment") as db:
                db.execute("""
                    INSERT INTO ledger_entries (entry_id, effect, customer_id, amount_cents, order_id, payment_id)
                    SELECT gen_random_uuid(), effect, customer_id, amount_cents, order_id, payment_id
                    FROM ledger_entries WHERE order_id = %s""", [given.order])
            ''',
            "Payment itself",
        ),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.faults.on("payment", "guards-off")
        order = bench.shop.follow(bench.shop.place_order("edsger", "amsterdam", {"tie-guan-yin": 1}))
        bench.look.wait_for_rest(order)
        return f"{order}. Payment has no guards now, but it has an inbox.", {
            "order": order.order_id,
            **_command(bench, order.order_id),
        }

    def check(self, bench: Bench, answer: Any) -> Verdict:
        order = bench.given.order
        now = _command(bench, order)
        if now["command"] != bench.given.command:
            bench.look.wait_for_rest(order)
        captures = list(bench.look.db.rows("payment", CHARGES, order=order).effect).count("capture")
        paid = len(bench.look.db.rows("payment", PAID, order=order))
        if captures > 1 and paid > 1 and now["command"] == bench.given.command:
            return wrong(
                "Charged twice, but under the same id: the inbox was off, or no longer had that id. Get past the "
                "inbox while it is on and has the id. (Run the setup again for another try.)"
            )
        if captures > 1 and paid > 1:
            return right(f"{captures} captures: payment treated the new id as a new command.")
        if captures > 1:
            return wrong(
                "You wrote that entry yourself. Payment itself should charge twice, because it receives two commands."
            )
        if now["written_by"] != bench.given.written_by:
            return wrong("It was sent again under the same id, and the inbox knows that id.")
        return untouched("The order was charged once, and nothing was published again since the setup.")

    def cleanup(self, bench: Bench) -> str:
        bench.lab.reset()
        return "The lab is reset: payment has its guards again, and the wrong charge is gone."


def _command(bench: Bench, order: str) -> dict[str, str]:
    """Return the id of payment's command, and the transaction that wrote its row.

    A resent row keeps its id, but another transaction wrote it.
    """
    row = bench.look.db.rows("inventory", COMMAND, order=order).iloc[0]
    return {"command": bench.shop.id(row.event_id), "written_by": row.written_by}


class CorrectTheCharge(Exercise):
    """An error in a ledger is corrected with an additional row."""

    name = "correct-the-charge"
    title = "An order was charged twice: correct it without changing any row of the ledger"
    tip = (
        "Two statements in one transaction, in payment's database: a row in ledger_entries with the effect 'refund' "
        "and a new entry_id (copy customer_id, order_id and payment_id from one of the captures), and the balance in "
        "accounts, which must stay the sum of the ledger."
    )
    answer = '''
        with look.db.connect("payment") as db:
            db.execute("""
                INSERT INTO ledger_entries (entry_id, effect, customer_id, amount_cents, order_id, payment_id)
                SELECT gen_random_uuid(), 'refund', customer_id, amount_cents, order_id, payment_id
                FROM ledger_entries WHERE order_id = %s LIMIT 1""", [given.order])
            db.execute("""
                UPDATE accounts SET balance_cents = balance_cents + %s
                WHERE customer_id = %s""", [given.amount_cents, given.customer])
    '''
    why = (
        "Capture, capture, refund: the sum is correct, the customer has her money, and the ledger shows what happened "
        "and when it was corrected. An UPDATE or DELETE would hide it, and yesterday's account statement would be "
        "wrong without an explanation. The referee still lists the order under each-effect-is-taken-once, and it "
        "should: the second charge did happen."
    )
    mistakes = (
        Wrong(
            '''
            with look.db.connect("payment") as db:
                db.execute("""
                    DELETE FROM ledger_entries WHERE entry_id IN (
                        SELECT entry_id FROM ledger_entries WHERE order_id = %s ORDER BY at DESC LIMIT 1)""",
                    [given.order])
            ''',
            "only added",
        ),
        Wrong(
            '''
            with look.db.connect("payment") as db:
                db.execute("""
                    INSERT INTO ledger_entries (entry_id, effect, customer_id, amount_cents, order_id, payment_id)
                    SELECT gen_random_uuid(), 'refund', customer_id, amount_cents, order_id, payment_id
                    FROM ledger_entries WHERE order_id = %s LIMIT 1""", [given.order])
            ''',
            "balances-add-up",
        ),
        Wrong("shop.deposit(given.customer, given.amount_cents)", "money-matches-orders"),
        Wrong(
            '''
            with look.db.connect("payment") as db:
                db.execute("""
                    UPDATE ledger_entries SET amount_cents = 0 WHERE entry_id IN (
                        SELECT entry_id FROM ledger_entries WHERE order_id = %s ORDER BY at DESC LIMIT 1)""",
                    [given.order])
                db.execute("""
                    UPDATE accounts SET balance_cents = balance_cents + %s
                    WHERE customer_id = %s""", [given.amount_cents, given.customer])
            ''',
            "only added",
        ),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        for switch in ("inbox-off", "guards-off"):
            bench.lab.faults.on("payment", switch)
        order = bench.shop.follow(bench.shop.place_order("grace", "copenhagen", {"dragon-well": 1}))
        bench.look.wait_for_rest(order, without="payment")
        bench.lab.resend(order.order_id)
        order_id = order.order_id
        wait_until(lambda: len(bench.look.db.rows("payment", CHARGES, order=order_id)) == 2, what="the second charge")
        bench.look.wait_for_rest(order, without="payment")
        bench.lab.faults.off("payment")
        facts = {
            "order": order_id,
            "amount_cents": order.total_cents,
            "customer": "grace",
            "balance": bench.shop.account("grace")["balance_cents"],
        }
        return f"{order}, and charged twice. Payment has its inbox and guards again.", facts

    def check(self, bench: Bench, answer: Any) -> Verdict:
        given = bench.given
        entries = bench.look.db.rows("payment", CHARGES, order=given.order)
        effects = list(entries.effect)
        balance = bench.shop.account(given.customer)["balance_cents"]
        charged = [given.amount_cents] * 2
        if effects == ["capture", "capture"] and balance == given.balance and list(entries.amount_cents) == charged:
            return untouched("The order is still charged twice, and nothing was refunded.")
        if list(entries.amount_cents[entries.effect == "capture"]) != charged:
            return wrong("Rows are only added to the ledger: the wrong charge happened, and its row must stay.")
        verdicts = {verdict.name: verdict for verdict in bench.lab.check(wait_for_rest=20)}
        money = verdicts["money-matches-orders"]
        if money.holds is None:
            return wrong("The referee waits until no event is in flight. Check again.")
        if given.order in money.offenders:
            return wrong("The referee still lists the order under money-matches-orders: its entries don't add up yet.")
        if given.customer in verdicts["balances-add-up"].offenders:
            return wrong("The referee lists grace under balances-add-up: her balance is not the sum of her ledger.")
        return right(f"{', '.join(effects)}: the ledger adds up, and shows what happened.")

    def cleanup(self, bench: Bench) -> str:
        bench.lab.reset()
        return "The lab is reset, including the ledger."


EXERCISES: tuple[Exercise, ...] = (
    CountTheCopies(),
    FindTheCopies(),
    ThreeAnswers(),
    SafeToRetry(),
    PastTheInbox(),
    CorrectTheCharge(),
)
