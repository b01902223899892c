"""The exercises of notebook 03."""

from __future__ import annotations

from typing import Any

from labkit.client.shop import Order
from labkit.errors import QueryFailed
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.building.saga_test import TestOfASaga
from labkit.exercises.building.undo_in_any_order import UndoInAnyOrder
from labkit.waiting import wait_until
from labservices.contract import PUBLISHES, TERMINAL
from labstack.clients import http


class WhatTheShopKept(Exercise):
    """The ledger only adds rows, so the remaining amount is a signed sum."""

    name = "what-the-shop-kept"
    title = "Write the SQL that shows how much money the shop kept for each order"
    kind = "query"
    level = 2
    minutes = 3
    hints = (
        "For each order the shop keeps its captures minus its refunds. Both are in ledger_entries, without a sign.",
        "CASE effect WHEN 'capture' THEN amount_cents ELSE -amount_cents END gives each row its sign; then sum(...) "
        "AS kept and GROUP BY order_id.",
        "It begins:\n    SELECT order_id, sum(CASE effect WHEN 'capture' THEN ...",
    )
    answer = '''
        answer = """
            SELECT order_id, sum(CASE effect WHEN 'capture' THEN amount_cents ELSE -amount_cents END) AS kept
            FROM ledger_entries WHERE order_id = ANY(%(orders)s::uuid[]) GROUP BY order_id
        """
    '''
    why = (
        "The amounts in the ledger have no sign; the effect gives the direction. The referee compares the sum for an "
        "order with its status: its total if it is COMPLETED, otherwise zero. An order without any payment has no "
        "rows at all, and is correct, too."
    )
    mistakes = (
        Wrong(
            'answer = "SELECT order_id, sum(amount_cents) AS kept FROM ledger_entries '
            'WHERE order_id = ANY(%(orders)s::uuid[]) GROUP BY order_id"',
            "opposite direction",
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
            "only these two",
        ),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        wanted = [("radia", "madrid"), ("edsger", "tristan-da-cunha")]
        orders = [bench.shop.follow(bench.shop.place_order(who, where, {"matcha": 1})) for who, where in wanted]
        return "\n".join(map(str, orders)), {"orders": [order.order_id for order in orders]}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            rows = bench.look.db.rows("payment", str(answer), orders=bench.given.orders)
        except QueryFailed as error:
            return wrong(f"PostgreSQL rejects the query: {error.problem}")
        if not {"order_id", "kept"} <= set(rows.columns):
            return wrong("The result needs the columns order_id and kept: SELECT order_id, … AS kept.")
        completed, undone = bench.given.orders
        total = bench.shop.order(completed).total_cents
        kept = {bench.shop.id(str(order)): kept for order, kept in zip(rows.order_id, rows.kept, strict=True)}
        if not set(kept) <= set(bench.given.orders):
            return wrong("The result contains other orders. Show only these two: WHERE selects them.")
        if len(kept) == len(rows) and kept.get(completed) == total and kept.get(undone) == 0:
            return right(f"{total} cents for the completed order, and zero for the one that was undone.")
        if kept.get(undone) == 2 * total:
            return wrong(
                "You counted the refund as income. It goes in the opposite direction: it needs the other sign."
            )
        return wrong("The second order was refunded completely: its sum is 0. Which rows did you leave out?")


class StuckCancelling(Exercise):
    """A CANCELLING order waits for the undo events that are still missing."""

    name = "stuck-cancelling"
    title = "An order stays CANCELLING. Find the missing event, and get it published"
    kind = "diagnosis"
    level = 2
    minutes = 5
    hints = (
        "Which answers has the order service received? Each success among them needs its undo.",
        "order_answers, in the order service's database, has `type` for each order_id. A service that is down can't "
        "publish: lab.status() shows which.",
        "Two of the three steps succeeded, and one undo is there; the missing one belongs to the service that `lab` "
        "shows as stopped. lab.start(...) starts it.",
    )
    answer = """
        answer = "PaymentRefunded"
        lab.start("payment")
    """
    why = (
        "The answers so far are InventoryReserved with its InventoryReleased, PaymentCompleted, and ShippingFailed, "
        "which ended the chain. The payment has no undo. Nothing is lost: ShippingFailed waits in Kafka for payment's "
        "consumer, and payment refunds as soon as it is running again, even days later."
    )
    mistakes = (
        Wrong('answer = "ShipmentCancelled"', "never scheduled"),
        Wrong('answer = "InventoryReleased"', "has arrived"),
        Wrong('answer = "PaymentRefund"', "No event has the type"),
        Wrong('answer = "OrderCompleted"', "undoes nothing"),
        Wrong('answer = "OrderCancelled"', "last of all"),
        Wrong('answer = "PaymentRefunded"', "Get it published"),
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
        arrived = set(bench.look.db.rows("order", ANSWERS, order=bench.given.order)["type"])
        runs = bench.lab.status(memory=False).components["payment"].state == "running"
        if answer == "PaymentRefunded":
            if not runs:
                return wrong(
                    "PaymentRefunded is correct, and it is still missing. Get it published: which service should do it?"
                )
            return right(f"{bench.shop.follow(bench.given.order)}. The customer has the money back.")
        if answer == "OrderCancelled":
            return wrong("That one comes last of all, from the order service itself. Which event does it wait for?")
        if str(answer) in arrived:
            return wrong(f"{answer} has arrived: it is among the answers. Which success has no undo there?")
        if answer == "ShipmentCancelled":
            return wrong("The shipment was never scheduled, so it needs no undo. Which success has none?")
        if not any(answer in events for events in PUBLISHES.values()):
            return wrong(f"No event has the type {answer}. Notebook 03 begins with a table of all compensations.")
        return wrong(f"{answer} undoes nothing. Look at `type` in order_answers: which success has no undo beside it?")

    def cleanup(self, bench: Bench) -> str:
        bench.lab.start("payment")
        return f"Payment is running. {bench.shop.follow(bench.given.order)}"


ANSWERS = "SELECT type FROM order_answers WHERE order_id = %(order)s"


class CancelWhenPaid(Exercise):
    """Stopping the next service keeps the order PAID long enough for a cancellation."""

    name = "cancel-when-paid"
    title = "Let hedy cancel an order after it is PAID and before it is COMPLETED"
    kind = "operation"
    level = 2
    minutes = 5
    hints = (
        "An order is PAID for milliseconds, and a request takes longer. Which service takes the next step, and what if "
        "it can't?",
        'lab.stop(...) and lab.start(...); wait_until(lambda: shop.order(order).status == "PAID") from labkit; '
        "shop.cancel(order).",
        'It begins:\n    lab.stop("shipping")\n    order = shop.place_order("hedy", ...',
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
        "With shipping down, the order can't get past PAID. The cancel is accepted at once, goods and money are "
        "returned at once, and still the order is CANCELLING: shipping has a pending command, and its answer is "
        "unknown. It answers after its restart, and whatever the answer is, the order ends CANCELLED and holds "
        "nothing."
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
            "still has to answer",
        ),
        Wrong('shop.follow(shop.place_order("hedy", "tristan-da-cunha", {"keemun": 1}))', "not cancelled"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        newest = next((order.order_id for order in bench.shop.orders(limit="1")), "")
        return "The existing orders are recorded. Now it is hedy's turn.", {"before": newest}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        new = [order for order in bench.shop.orders(customer_id="hedy") if order.order_id > bench.given.before]
        if not new:
            return untouched("hedy has placed no order since the setup.")
        verdicts = [self._judge(bench, order) for order in new]
        return next((verdict for verdict in verdicts if verdict.outcome == "right"), verdicts[0])

    def _judge(self, bench: Bench, order: Order) -> Verdict:
        down = [n for n, c in bench.lab.status(memory=False).components.items() if c.state != "running"]
        order = bench.shop.order(order) if down else bench.shop.follow(order)
        past = [change["status"] for change in bench.shop.history(order)]
        if order.status == "COMPLETED":
            return wrong(
                "It is COMPLETED: that was the pivot. An order is PAID for milliseconds only, so no cancel arrives in "
                "time by luck. Which service must not take its step meanwhile?"
            )
        if order.failure_reason == "deadline_exceeded":
            return wrong(
                "Thirty seconds had passed, and the shop's deadline cancelled it before hedy did. Place another order, "
                "and let one cell wait for PAID and cancel."
            )
        if order.failure_reason != "cancelled_by_customer":
            return wrong(f"It was not cancelled by hedy; its reason is {order.failure_reason}.")
        if "PAID" not in past:
            return wrong(
                f"It was cancelled before it was paid: {', '.join(past)}. Stop only the service whose step comes after "
                "the payment, and cancel when the status is PAID, not before."
            )
        if order.status not in TERMINAL:
            return wrong(f"It was PAID and cancelled, and is {order.status} now. Which service still has to answer?")
        return right(f"{', '.join(past)}: the money was captured and refunded.")

    def cleanup(self, bench: Bench) -> str:
        for service in ("inventory", "payment", "shipping"):
            bench.lab.start(service)
        new = [order for order in bench.shop.orders(customer_id="hedy") if order.order_id > bench.given.before]
        ended = all(bench.shop.follow(order).status in TERMINAL for order in new)
        return "Every service is running, and hedy's orders have ended." if ended else ""


class NeverOvertaken(Exercise):
    """Records with one key are ordered within a topic, but not between two topics."""

    name = "never-overtaken"
    title = "A cancel can overtake the commands of two services. Which service's command can it never overtake?"
    kind = "recall"
    level = 1
    minutes = 3
    hints = (
        "On which event does each service act, and in which topic is it? The cancel is in order.events.",
        "look.kafka.events(look.kafka.records(given.order)) shows topic and partition of each record. Only within "
        "one partition is there an order.",
        "Compare the topics: OrderCreated and OrderCancelRequested have the same one. Which service acts on "
        "OrderCreated?",
    )
    answer = 'answer = "inventory"'
    why = (
        "Inventory acts on OrderCreated. It is in order.events, as OrderCancelRequested is, with the same key, so "
        "both are in one partition, in the order in which they were published. Payment acts on InventoryReserved and "
        "shipping on PaymentCompleted: other topics, and there is no order between two topics. Those two need "
        "tombstones regularly; inventory has one, too, because four services with the same structure are easier to "
        "get right."
    )
    mistakes = (
        Wrong('answer = "payment"', "inventory.events"),
        Wrong('answer = "shipping"', "payment.events"),
        Wrong('answer = "order"', "handles the cancel itself"),
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
        records = {view.record.type: view.record for view in bench.look.kafka.records(bench.given.order)}
        cancel = records["OrderCancelRequested"]
        commands = {
            "inventory": records["OrderCreated"],
            "payment": records["InventoryReserved"],
            "shipping": records["PaymentCompleted"],
        }
        if answer == "order":
            return wrong("The order service handles the cancel itself. Which of the other three?")
        if answer not in commands:
            return wrong("Answer with one name: 'inventory', 'payment' or 'shipping'.")
        command = commands[answer]
        if command.topic_partition != cancel.topic_partition:
            return wrong(
                f"Its command {command.type} is in {command.topic}, the cancel in {cancel.topic}. Which of the two is "
                "read first is a matter of chance."
            )
        return right(f"{command.type} and {cancel.type} are in the same partition of {command.topic}, in this order.")


def _consumer(bench: Bench, service: str, verb: str) -> None:
    """Pause or resume a service's consumer; its HTTP API keeps running."""
    url = f"{bench.lab.endpoints.services[service]}/manage/consumer/{verb}"
    http.request("POST", url, timeout=10).raise_for_status()


EXERCISES: tuple[Exercise, ...] = (
    WhatTheShopKept(),
    StuckCancelling(),
    CancelWhenPaid(),
    NeverOvertaken(),
    TestOfASaga(),
    UndoInAnyOrder(),
)
