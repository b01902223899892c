"""The exercises of notebook 04."""

from __future__ import annotations

from typing import Any

from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.building.answer_by_key import AnswerByKey
from labkit.exercises.building.commit_after_work import CommitAfterWork
from labkit.exercises.building.write_the_inbox import WriteTheInbox
from labkit.waiting import wait_until

CHARGES = "SELECT effect, amount_cents FROM ledger_entries WHERE order_id = %(order)s ORDER BY at"
COMMAND = """
    SELECT id::text AS event_id, xmin::text AS written_by FROM outbox
    WHERE aggregateid = %(order)s AND type = 'InventoryReserved'
"""
PAID = "SELECT id FROM outbox WHERE aggregateid = %(order)s AND type = 'PaymentCompleted'"
WISH = ("paris", [("silver-needle", 2)])
"""The destination and the items of leslie's order."""


class SafeToRetry(Exercise):
    """A client that gets no answer must be able to retry."""

    name = "safe-to-retry"
    title = "Send leslie's order three times, and get one order"
    kind = "code"
    level = 1
    minutes = 2
    hints = (
        "Three requests, one intention. What in the requests tells the service that it is the same intention?",
        "shop.place_order(..., key=...) sends the header Idempotency-Key; uuid4() makes a new key. When must it be "
        "made?",
        "It begins:\n    key = str(uuid4())\n    for attempt in range(3):",
    )
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
            why = "each order has its own key" if keys == len(new) else "at least one request had no key"
            return wrong(
                f"Leslie has {len(new)} orders since the setup, so she gets {len(new)} parcels: {why}. (Orders of "
                "earlier tries count, too: run the setup again before the next one.)"
            )
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
    kind = "query"
    level = 3
    minutes = 5
    hidden = ("command", "written_by")
    hints = (
        "lab.resend keeps the ids, and the inbox knows them. Which row of which outbox is payment's command?",
        "Payment acts on InventoryReserved, a row in inventory's outbox. The same row with a new id is another "
        "event; in this lab (aggregateid, type) is unique, so the old row must go first.",
        'It begins:\n    with look.db.connect("inventory") as db:\n'
        '        db.execute("WITH gone AS (DELETE FROM outbox WHERE ... RETURNING *) ...',
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
    kind = "query"
    level = 3
    minutes = 13
    hints = (
        "An accountant does not erase a wrong entry. What would she write, and which sum must fit again?",
        "One transaction in payment's database: INSERT INTO ledger_entries ... SELECT ... with the effect 'refund' "
        "and a new entry_id, and UPDATE accounts, since the balance is the sum of the ledger.",
        'It begins:\n    with look.db.connect("payment") as db:\n        db.execute("INSERT INTO ledger_entries '
        "(entry_id, effect, customer_id, amount_cents, order_id, payment_id) ...",
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
    CommitAfterWork(),
    WriteTheInbox(),
    SafeToRetry(),
    AnswerByKey(),
    PastTheInbox(),
    CorrectTheCharge(),
)
