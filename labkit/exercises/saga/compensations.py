"""The exercises of notebook 03."""

from __future__ import annotations

from typing import Any

from labkit.client.shop import TERMINAL, Order
from labkit.errors import QueryFailed
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.waiting import wait_until
from labstack.clients import http

SERVICES = {"order", "inventory", "payment", "shipping"}
UNDONE_BY = {"InventoryReleased", "PaymentRefunded", "ShipmentCancelled"}


class WhoIsTold(Exercise):
    """A failure event concerns every service except its publisher."""

    name = "who-is-told"
    title = "Shipping says ShippingFailed. Which services must hear of it?"
    tip = "Who has something to undo? And who moves the order on? look.heard(given.order) shows every inbox."
    answer = 'answer = {"order", "inventory", "payment"}'
    why = (
        "Inventory has to release and payment to refund. The order service has nothing to undo, but it must know that "
        "the chain has ended, and wait for the two. Shipping wrote the event: in the transaction in which it said no "
        "it did all that it had to do."
    )
    mistakes = (
        Wrong('answer = {"inventory", "payment"}', "CANCELLING"),
        Wrong('answer = {"order", "inventory", "payment", "shipping"}', "wrote it"),
        Wrong('answer = {"order"}', "conducts"),
        Wrong('answer = {"warehouse"}', "names of services"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = bench.shop.follow(bench.shop.place_order("barbara", "concordia-station", {"genmaicha": 2}))
        return f"{order}", {"order": order.order_id}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        named = {answer} if isinstance(answer, str) else set(answer) if isinstance(answer, set | list | tuple) else None
        if not named or not named <= SERVICES:
            return wrong("The answer is a set of names of services: {'...', '...'}.")
        bench.look.wait_for_rest(bench.given.order)
        heard = bench.look.heard(bench.given.order).set_index("type").loc["ShippingFailed"]
        told = {service for service in SERVICES if heard[service] == 1}
        if named == told:
            return right(f"It stands in the inboxes of {', '.join(sorted(told))}.")
        if "shipping" in named:
            return wrong("Shipping wrote it, and has nothing left to do. Who else has?")
        if named == {"order"}:
            return wrong("Nobody conducts here: the order service tells nobody to undo. Who undoes by himself?")
        if "order" not in named:
            return wrong("These undo what they did. But who makes the order CANCELLING, and waits for them?")
        return wrong("By the time shipping is asked, two services have done something. Each must hear of it.")


class WhatTheShopKept(Exercise):
    """The ledger only adds rows, so the remaining amount is a signed sum."""

    name = "what-the-shop-kept"
    title = "Write the SQL that says what the shop kept of each order's money"
    tip = (
        "Of one order the shop keeps its captures minus its refunds. The amounts have no sign: how does a row get one "
        "from its `effect`? (CASE … WHEN … can.) Then it is one sum for each order."
    )
    answer = '''
        answer = """
            SELECT order_id, sum(CASE effect WHEN 'capture' THEN amount_cents ELSE -amount_cents END) AS kept
            FROM ledger_entries WHERE order_id = ANY(%(orders)s::uuid[]) GROUP BY order_id
        """
    '''
    why = (
        "The amounts in the ledger have no sign; the effect says which way the money went. The sum over an order is "
        "what the referee compares with its status: its total where it is COMPLETED, nothing where it is not. An "
        "order without any money moved has no rows at all, and is right, too."
    )
    mistakes = (
        Wrong(
            'answer = "SELECT order_id, sum(amount_cents) AS kept FROM ledger_entries '
            'WHERE order_id = ANY(%(orders)s::uuid[]) GROUP BY order_id"',
            "other way",
        ),
        Wrong(
            'answer = "SELECT order_id, amount_cents AS kept FROM ledger_entries '
            "WHERE order_id = ANY(%(orders)s::uuid[]) AND effect = 'capture'\"",
            "was refunded",
        ),
        Wrong('answer = "SELECT order_id, sum(amount_cents) AS kept FROM ledger_entries"', "PostgreSQL"),
        Wrong('answer = "SELECT effect, amount_cents FROM ledger_entries"', "columns"),
        Wrong(
            'answer = "SELECT order_id, 0 AS kept FROM ledger_entries UNION ALL SELECT gen_random_uuid(), 0"',
            "these two only",
        ),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        wanted = [("radia", "madrid"), ("edsger", "tristan-da-cunha")]
        orders = [bench.shop.follow(bench.shop.place_order(who, where, {"matcha": 1})) for who, where in wanted]
        return "\n".join(map(str, orders)), {"orders": [order.order_id for order in orders]}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            rows = bench.look.sql("payment", str(answer), orders=bench.given.orders)
        except QueryFailed as error:
            return wrong(f"PostgreSQL does not take it: {error.problem}")
        if not {"order_id", "kept"} <= set(rows.columns):
            return wrong("The result needs the columns order_id and kept: SELECT order_id, … AS kept.")
        completed, undone = bench.given.orders
        total = bench.shop.order(completed).total_cents
        kept = {bench.shop.id(str(order)): kept for order, kept in zip(rows.order_id, rows.kept, strict=True)}
        if not set(kept) <= set(bench.given.orders):
            return wrong("There are other orders in it. Show these two only: WHERE picks them.")
        if len(kept) == len(rows) and kept.get(completed) == total and kept.get(undone) == 0:
            return right(f"{total} cents of the one that was completed, and nothing of the one that was undone.")
        if kept.get(undone) == 2 * total:
            return wrong("The refund counts as if money had come in. It went the other way: it needs the other sign.")
        return wrong("Of the second order everything was refunded: its sum is 0. Which rows did you leave out?")


class FirstCause(Exercise):
    """The order's row keeps the first cause that reaches it."""

    name = "first-cause"
    title = "A declined card and a customer's cancel: which reason does the order keep?"
    tip = (
        "Cancelling is an HTTP request: it reaches the order's row at once. PaymentFailed comes through outbox, "
        "Debezium and Kafka, and the order service's consumer did not read. Which changed the row's status?"
    )
    answer = 'answer = "cancelled_by_customer"'
    why = (
        "The order is CANCELLING from the first cause that its row takes, under its lock; failure_reason keeps that "
        "one. PaymentFailed was said earlier and written down later: as an answer it counts all the same, since it "
        "ends the chain. In time, 'first' means: first at this row."
    )
    mistakes = (
        Wrong('answer = "insufficient_funds"', "had not been read"),
        Wrong('answer = "order_cancelled"', "tombstone"),
        Wrong('answer = "declined"', "reasons"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        _consumer(bench, "order", "pause")
        try:
            order = bench.shop.place_order("penniless-pia", "rome", {"keemun": 1})
            bench.look.wait_for_rest(order, without="order")
            bench.shop.cancel(order)
        finally:
            _consumer(bench, "order", "resume")
        bench.shop.follow(order)
        told = (
            f"The order service's consumer was paused. Pia ordered ({order.alias}), payment said PaymentFailed,\n"
            "and Pia called the order off. Then the consumer went on."
        )
        return told, {"order": order.order_id}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        kept = bench.shop.order(bench.given.order).failure_reason
        if answer == kept:
            return right(f"{kept}: it was the first to reach the order's row.")
        if answer == "insufficient_funds":
            return wrong("That was said first. But it had not been read yet when the customer's request came.")
        if answer == "order_cancelled":
            return wrong("That is what a service says that finds a tombstone. Here payment was asked in time.")
        return wrong("There is no such reason. Two reasons compete: insufficient_funds and cancelled_by_customer.")


class StuckCancelling(Exercise):
    """A CANCELLING order waits for the undo events that are still missing."""

    name = "stuck-cancelling"
    title = "An order stays CANCELLING: which event is missing? Make it come"
    tip = (
        "order_answers, in the order service's database, holds what has come: `type` for this order_id. Each success "
        "needs its undo: which one has none? Then look who should have said it, and whether it runs."
    )
    answer = """
        answer = "PaymentRefunded"
        lab.start("payment")
    """
    why = (
        "The answers that have come are InventoryReserved with its InventoryReleased, PaymentCompleted, and "
        "ShippingFailed, which ended the chain. The payment has no undo. Nothing is lost: ShippingFailed waits in "
        "Kafka for payment's consumer, and payment refunds as soon as it is back, even days later."
    )
    mistakes = (
        Wrong('answer = "ShipmentCancelled"', "never scheduled"),
        Wrong('answer = "InventoryReleased"', "has come"),
        Wrong('answer = "payment"', "undoes nothing"),
        Wrong('answer = "OrderCancelled"', "last of all"),
        Wrong('answer = "PaymentRefunded"', "Make it come"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.stop("shipping")
        order = bench.shop.place_order("leslie", "tristan-da-cunha", {"jasmine-pearls": 1})
        wait_until(lambda: bench.shop.order(order).status == "PAID", what="the payment")
        bench.lab.stop("payment")
        bench.lab.start("shipping")
        bench.look.wait_for_rest(order, without="payment")
        return f"{bench.shop.order(order)}", {"order": order.order_id}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        come = set(bench.look.sql("order", ANSWERS, order=bench.given.order)["type"])
        runs = bench.lab.status(memory=False).components["payment"].state == "running"
        if answer == "PaymentRefunded":
            if not runs:
                return wrong("PaymentRefunded it is, and it is still missing. Make it come: who should say it?")
            return right(f"{bench.shop.follow(bench.given.order)}. What was owed has been paid back.")
        if answer == "OrderCancelled":
            return wrong("That one comes last of all, from the order service itself. What is it waiting for?")
        if str(answer) in come:
            return wrong(f"{answer} has come: it stands among the answers. Which success has no undo there?")
        if answer == "ShipmentCancelled":
            return wrong("The shipment was never scheduled, so nobody owes its undo. Which success has none?")
        return wrong(f"{answer} undoes nothing. Look at `type` in order_answers: which success has no undo beside it?")

    def cleanup(self, bench: Bench) -> str:
        bench.lab.start("payment")
        return f"Payment runs. {bench.shop.follow(bench.given.order)}"


ANSWERS = "SELECT type FROM order_answers WHERE order_id = %(order)s"


class CancelWhenPaid(Exercise):
    """Stopping the next service keeps the order PAID long enough for a cancellation."""

    name = "cancel-when-paid"
    title = "Let hedy call an order off after it was PAID and before it is COMPLETED"
    tip = (
        "An order passes PAID within a blink. Who takes the next step? While that service is down the order waits "
        "there: wait_until(lambda: shop.order(order).status == 'PAID')."
    )
    answer = """
        from labkit import wait_until
        lab.stop("shipping")
        order = shop.place_order("hedy", "galway", {"keemun": 1})
        wait_until(lambda: shop.order(order).status == "PAID")
        shop.cancel(order)
        lab.start("shipping")
        shop.follow(order)
    """
    why = (
        "With shipping down the order can't get past PAID. The cancel is taken at once, goods and money come back at "
        "once, and still the order is CANCELLING: shipping was asked to ship, and nobody knows what it will answer. "
        "It answers when it is back, and whatever that is, the order ends CANCELLED with nothing held."
    )
    mistakes = (
        Wrong('shop.follow(shop.place_order("hedy", "galway", {"keemun": 1}))', "pivot"),
        Wrong(
            """
            lab.stop("inventory")
            order = shop.place_order("hedy", "galway", {"keemun": 1})
            shop.cancel(order)
            lab.start("inventory")
            shop.follow(order)
            """,
            "before it was paid",
        ),
        Wrong(
            """
            from labkit import wait_until
            lab.stop("shipping")
            order = shop.place_order("hedy", "galway", {"keemun": 1})
            wait_until(lambda: shop.order(order).status == "PAID")
            shop.cancel(order)
            """,
            "Who still owes",
        ),
        Wrong('shop.follow(shop.place_order("hedy", "tristan-da-cunha", {"keemun": 1}))', "not called off"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        newest = next((order.order_id for order in bench.shop.orders(limit="1")), "")
        return "Noted which orders are there already. Now it is hedy's turn.", {"before": newest}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        new = [order for order in bench.shop.orders(customer_id="hedy") if order.order_id > bench.given.before]
        if not new:
            return untouched("There is no new order of hedy's since the setup.")
        verdicts = [self._judge(bench, order) for order in new]
        return next((verdict for verdict in verdicts if verdict.outcome == "right"), verdicts[0])

    def _judge(self, bench: Bench, order: Order) -> Verdict:
        down = [n for n, c in bench.lab.status(memory=False).components.items() if c.state != "running"]
        order = bench.shop.order(order) if down else bench.shop.follow(order)
        past = [change["status"] for change in bench.shop.history(order)]
        if order.status == "COMPLETED":
            return wrong("It is COMPLETED: that was the pivot. The cancel must come before shipping has answered.")
        if order.failure_reason != "cancelled_by_customer":
            return wrong(f"It was not called off by hedy; its reason is {order.failure_reason}.")
        if "PAID" not in past:
            return wrong(f"It was called off before it was paid: {', '.join(past)}. Hold another service.")
        if order.status not in TERMINAL:
            return wrong(f"It was PAID and called off, and is {order.status} now. Who still owes an answer?")
        return right(f"{', '.join(past)}: the money was taken, and given back.")

    def cleanup(self, bench: Bench) -> str:
        for service in ("inventory", "payment", "shipping"):
            bench.lab.start(service)
        new = [order for order in bench.shop.orders(customer_id="hedy") if order.order_id > bench.given.before]
        ended = all(bench.shop.follow(order).status in TERMINAL for order in new)
        return "Every service runs, and hedy's orders have come to their end." if ended else ""


class NeverOvertaken(Exercise):
    """Records with one key are ordered within a topic, but not between two topics."""

    name = "never-overtaken"
    title = "A cancel can overtake the command of two services. Which service's command does it never overtake?"
    tip = (
        "Upon which event does each service act, and in which topic does it come? The cancel comes in order.events. "
        "look.events(look.records(given.order)) shows the topics."
    )
    answer = 'answer = "inventory"'
    why = (
        "Inventory acts on OrderCreated. It comes in order.events, as OrderCancelRequested does, with the same key, so "
        "both lie in one partition, in the order in which they were said. Payment acts on InventoryReserved and "
        "shipping on PaymentCompleted: other topics, and between two topics nothing is ordered. Those two need "
        "tombstones every day; inventory has one, too, since four services that look alike are easier to get right."
    )
    mistakes = (
        Wrong('answer = "payment"', "inventory.events"),
        Wrong('answer = "shipping"', "payment.events"),
        Wrong('answer = "order"', "takes the cancel itself"),
        Wrong('answer = "Inventory"', "one name"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        _consumer(bench, "order", "pause")
        try:
            order = bench.shop.place_order("frances", "vienna", {"white-peony": 1})
            bench.look.wait_for_rest(order, without="order")
            bench.shop.cancel(order)
        finally:
            _consumer(bench, "order", "resume")
        return f"{bench.shop.follow(order)}", {"order": order.order_id}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        records = {view.record.type: view.record for view in bench.look.records(bench.given.order)}
        cancel = records["OrderCancelRequested"]
        commands = {
            "inventory": records["OrderCreated"],
            "payment": records["InventoryReserved"],
            "shipping": records["PaymentCompleted"],
        }
        if answer == "order":
            return wrong("The order service takes the cancel itself. Which of the other three?")
        if answer not in commands:
            return wrong("Answer with one name: 'inventory', 'payment' or 'shipping'.")
        command = commands[answer]
        if command.place != cancel.place:
            return wrong(
                f"Its command {command.type} comes in {command.topic}, the cancel in {cancel.topic}. Which of the two "
                "is read first is a matter of luck."
            )
        return right(f"{command.type} and {cancel.type} lie in the same partition of {command.topic}, in this order.")


def _consumer(bench: Bench, service: str, verb: str) -> None:
    """Pause or resume a service's consumer; its HTTP API keeps running."""
    url = f"{bench.lab.endpoints.services[service]}/manage/consumer/{verb}"
    http.request("POST", url, timeout=10).raise_for_status()


EXERCISES: tuple[Exercise, ...] = (
    WhoIsTold(),
    WhatTheShopKept(),
    FirstCause(),
    StuckCancelling(),
    CancelWhenPaid(),
    NeverOvertaken(),
)
