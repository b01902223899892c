"""The exercises of notebook 01."""

from __future__ import annotations

from typing import Any

from labkit.errors import QueryFailed
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.waiting import wait_until

UNDONE_BY = {"InventoryReleased", "PaymentRefunded", "ShipmentCancelled"}


class TotalInCents(Exercise):
    """Money is an integer, and the price comes from the service's own catalogue."""

    name = "total-in-cents"
    title = "What will 3 sencha and 1 glass-teapot cost?"
    tip = "The order service keeps a copy of the prices in its table `catalogue`. In which unit do they stand there?"
    answer = "answer = 3 * 1190 + 1 * 3490"
    why = (
        "7060: money is an integer in minor units, with its currency beside it. A float would lose a cent one day. And "
        "the price comes from the order service's own copy of the catalogue, so that it needs to ask nobody."
    )
    mistakes = (
        Wrong("answer = 70.60", "cents"),
        Wrong("answer = 1190 + 3490", "three"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        catalogue = bench.look.sql("order", "SELECT sku, unit_price_cents FROM catalogue")
        price = dict(zip(catalogue.sku, catalogue.unit_price_cents, strict=True))
        total = 3 * price["sencha"] + price["glass-teapot"]
        if answer == total:
            return right(f"{total} cents.")
        if answer == total / 100:
            return wrong("That is the amount in euros. The services count in cents, so that no fraction is ever lost.")
        if answer == price["sencha"] + price["glass-teapot"]:
            return wrong("That is one of each; the order has three packs of sencha.")
        return wrong("Look the two prices up in the order service's table `catalogue`, and add them up in cents.")


class StockArithmetic(Exercise):
    """Stock is reserved first, and shipped when the order is completed."""

    name = "stock-arithmetic"
    title = "What do 4 packs of rooibos change in the stock, once the order is COMPLETED?"
    tip = (
        "A reservation raises `reserved`. When the order completes, the parcel leaves: what happens to the promise "
        "then, and what to the goods that lay in the warehouse?"
    )
    answer = "answer = dict(on_hand=-4, reserved=0, shipped=+4)"
    why = (
        "While the order is under way, 4 packs are promised (reserved +4) and still lie there. When it completes they "
        "leave: on_hand −4, reserved back to what it was, shipped +4. So on_hand + shipped never changes but by a "
        "restock, which is what a stock-taker would check."
    )
    mistakes = (
        Wrong("answer = dict(on_hand=0, reserved=+4, shipped=0)", "has left"),
        Wrong("answer = dict(on_hand=-4, reserved=0, shipped=0)", "add up"),
        Wrong("answer = 4", "dict"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = bench.shop.follow(bench.shop.place_order("hedy", "galway", {"rooibos": 4}))
        return f"{order}", {"order": order.order_id}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, dict) or set(answer) != {"on_hand", "reserved", "shipped"}:
            return wrong("The answer is a dict of three numbers: dict(on_hand=..., reserved=..., shipped=...).")
        bench.look.take(5, bench.given.order)
        query = "SELECT effect, quantity FROM stock_movements WHERE order_id = %(order)s"

        def moved() -> dict[str, int]:
            rows = bench.look.sql("inventory", query, order=bench.given.order)
            return dict(zip(rows.effect, rows.quantity, strict=True))

        wait_until(lambda: "ship" in moved(), 20, what="the goods to leave")
        reserved, shipped = moved()["reserve"], moved()["ship"]
        if answer == {"on_hand": -shipped, "reserved": reserved - shipped, "shipped": shipped}:
            return right("Promised, then gone: on_hand −4, reserved ±0, shipped +4.")
        if answer["reserved"] != 0:
            return wrong("So it is on the way. But the order is COMPLETED: the parcel has left. Is it still promised?")
        return wrong("on_hand and shipped must add up to the same as before: nothing was bought, nothing vanished.")


class LedgerQuery(Exercise):
    """The ledger records money by adding rows."""

    name = "ledger-query"
    title = "Write the SQL that shows the ledger entries of one order"
    tip = "The table is `ledger_entries`, in payment's database. `%(order)s` stands for the order's id in the query."
    answer = 'answer = "SELECT effect, amount_cents FROM ledger_entries WHERE order_id = %(order)s"'
    why = (
        "The balance in `accounts` is a sum; the ledger says why. Rows are only ever added to it: a refund does not "
        "change the capture, it stands beside it. And payment finds them by order_id, which every event carries."
    )
    mistakes = (
        Wrong('answer = "SELECT effect, amount_cents FROM ledger_entries"', "of this order"),
        Wrong('answer = "SELECT * FROM payments WHERE order_id = %(order)s"', "ledger_entries"),
        Wrong('answer = "SELECT effect, amount FROM ledger_entries WHERE order_id = %(order)s"', "PostgreSQL"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = bench.shop.follow(bench.shop.place_order("radia", "madrid", {"keemun": 2}))
        return f"{order}", {"order": order.order_id}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            rows = bench.look.sql("payment", str(answer), order=bench.given.order)
        except QueryFailed as error:
            return wrong(f"PostgreSQL does not take it: {error.problem}")
        if not {"effect", "amount_cents"} <= set(rows.columns):
            return wrong("The ledger is the table ledger_entries; show its columns effect and amount_cents.")
        truth = bench.shop.payments(bench.given.order)[0]["entries"]
        seen = sorted(zip(rows.effect, rows.amount_cents, strict=True))
        if seen == sorted((entry["effect"], entry["amount_cents"]) for entry in truth):
            return right("One capture, the order's total. An order that is undone has a refund beside it.")
        return wrong(f"Your query gives {len(rows)} rows. Show those of this order only: WHERE order_id = ...")


class DirectCause(Exercise):
    """causation_id names the direct cause."""

    name = "direct-cause"
    title = "Which event led directly to ShipmentScheduled?"
    tip = "look.record(given.order, 'ShipmentScheduled') shows its headers. Whose ce_id is its causation_id?"
    answer = """
        events = look.events(look.take(5, given.order))
        cause = events.cause[events.type == "ShipmentScheduled"].item()
        answer = events.type[events.event == cause].item()
    """
    why = (
        "Shipping acted upon PaymentCompleted and wrote that event's id into its own as causation_id. Follow these ids "
        "backwards from any event and you come to OrderCreated, which has none: a person caused it."
    )
    mistakes = (
        Wrong('answer = "OrderCreated"', "where it all began"),
        Wrong('answer = "InventoryReserved"', "payment"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = bench.shop.follow(bench.shop.place_order("leslie", "paris", {"matcha": 1}))
        return f"{order}", {"order": order.order_id}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        order = bench.given.order
        scheduled = bench.look.record(order, "ShipmentScheduled").record  # found by type, even among duplicates
        events = {view.record.headers["ce_id"]: view.record for view in bench.look.records(order)}
        cause = events[scheduled.headers["causation_id"]].type
        if answer == cause:
            return right(f"{cause}: its ce_id stands in the causation_id of ShipmentScheduled.")
        if answer == "OrderCreated":
            return wrong("That is where it all began. causation_id names the event just before; read that header.")
        return wrong("Shipping doesn't act upon that one: it waits until payment has said something. What?")


class HowManyRecords(Exercise):
    """Five events, five records, four topics."""

    name = "how-many-records"
    title = "How many records does a completed order leave in Kafka?"
    tip = "Each service speaks once. Who speaks twice?"
    answer = "answer = len(look.take(5, given.order))"
    why = (
        "Five: OrderCreated, InventoryReserved, PaymentCompleted, ShipmentScheduled, and OrderCompleted, with which "
        "the order service closes the circle: on hearing it inventory ships the goods, and shipping dispatches the "
        "parcel."
    )
    mistakes = (
        Wrong("answer = 4", "twice"),
        Wrong("answer = 8", "statuses"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = bench.shop.follow(bench.shop.place_order("frances", "berlin", {"sencha": 1}))
        return f"{order}", {"order": order.order_id}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        bench.look.record(bench.given.order, "OrderCompleted")
        there = len(bench.look.records(bench.given.order))
        if answer == there:
            return right(f"{there}: one outbox row, one record, for each thing that was said.")
        if isinstance(answer, int) and answer < there:
            return wrong("One for each service, and one service speaks twice: at the beginning and at the end.")
        return wrong("Count records, not statuses: one for each outbox row. look.records(...) has them.")


class UndoList(Exercise):
    """Only completed steps need an undo event."""

    name = "undo-list"
    title = "An order goes where no carrier goes. Which events undo what was done?"
    tip = "Which steps had succeeded when shipping said no? Each of these, and only these, needs its undo."
    answer = 'answer = {"InventoryReleased", "PaymentRefunded"}'
    why = (
        "Two steps had succeeded, the reservation and the payment, so two undo events follow: InventoryReleased and "
        "PaymentRefunded. There is no ShipmentCancelled: no shipment was scheduled. Only when both have come is the "
        "order CANCELLED; until then it is CANCELLING."
    )
    mistakes = (
        Wrong('answer = {"InventoryReleased", "PaymentRefunded", "ShipmentCancelled"}', "never scheduled"),
        Wrong('answer = {"PaymentRefunded"}', "One more"),
        Wrong('answer = {"ShippingFailed"}', "tells of the failure"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = bench.shop.place_order("barbara", "concordia-station", {"peppermint": 5})
        return f"{bench.shop.follow(order)}", {"order": order.order_id}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if isinstance(answer, str):
            answer = {answer}
        if not isinstance(answer, set | list | tuple) or not answer:
            return untouched("The answer is a set of event types: {'...', '...'}.")
        bench.look.record(bench.given.order, "OrderCancelled")
        seen = {view.record.type for view in bench.look.records(bench.given.order)} & UNDONE_BY
        if set(answer) == seen:
            return right(f"{' and '.join(sorted(seen))}: each step that had succeeded was undone, and nothing else.")
        if "ShipmentCancelled" in answer:
            return wrong("The shipment was never scheduled: shipping said no. What was not done needs no undoing.")
        if set(answer) - UNDONE_BY:
            return wrong("One of yours tells of the failure, or of the end. Which tell that something was undone?")
        return wrong("One more: which other step had succeeded before shipping said no?")


EXERCISES: tuple[Exercise, ...] = (
    TotalInCents(),
    StockArithmetic(),
    LedgerQuery(),
    DirectCause(),
    HowManyRecords(),
    UndoList(),
)
