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
    tip = "The order service keeps a copy of the prices in its table `catalogue`. In which unit does it store them?"
    answer = "answer = 3 * 1190 + 1 * 3490"
    why = (
        "7060: money is an integer in minor units, with its currency next to it. A float would lose a cent one day. "
        "The price comes from the order service's own copy of the catalogue, so it does not depend on another service."
    )
    mistakes = (
        Wrong("answer = 70.60", "cents"),
        Wrong("answer = 1190 + 3490", "three"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        catalogue = bench.look.db.rows("order", "SELECT sku, unit_price_cents FROM catalogue")
        price = dict(zip(catalogue.sku, catalogue.unit_price_cents, strict=True))
        total = 3 * price["sencha"] + price["glass-teapot"]
        if answer == total:
            return right(f"{total} cents.")
        if answer == total / 100:
            return wrong("That is the amount in euros. The services count in cents, so that no fraction is lost.")
        if answer == price["sencha"] + price["glass-teapot"]:
            return wrong("That is one of each; the order has three packs of sencha.")
        return wrong("Look up the two prices in the order service's table `catalogue`, and add them up in cents.")


class StockArithmetic(Exercise):
    """Stock is reserved first, and shipped when the order is completed."""

    name = "stock-arithmetic"
    title = "What do 4 packs of rooibos change in the stock, once the order is COMPLETED?"
    tip = (
        "A reservation increases `reserved`. When the order completes, the parcel leaves: what happens then to the "
        "reservation, and what to the goods in the warehouse?"
    )
    answer = "answer = dict(on_hand=-4, reserved=0, shipped=+4)"
    why = (
        "While the order is open, 4 packs are reserved (reserved +4) and still in the warehouse. When it completes "
        "they leave: on_hand −4, reserved back to its old value, shipped +4. So on_hand + shipped changes only with a "
        "restock; a stocktaker would check exactly that."
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
        bench.look.kafka.take(5, bench.given.order)
        query = "SELECT effect, quantity FROM stock_movements WHERE order_id = %(order)s"

        def moved() -> dict[str, int]:
            rows = bench.look.db.rows("inventory", query, order=bench.given.order)
            return dict(zip(rows.effect, rows.quantity, strict=True))

        wait_until(lambda: "ship" in moved(), 20, what="the goods to be shipped")
        reserved, shipped = moved()["reserve"], moved()["ship"]
        if answer == {"on_hand": -shipped, "reserved": reserved - shipped, "shipped": shipped}:
            return right("First reserved, then shipped: on_hand −4, reserved ±0, shipped +4.")
        if answer["reserved"] != 0:
            return wrong(
                "That is the state while the order is open. But it is COMPLETED: the parcel has left. Is it still "
                "reserved?"
            )
        return wrong("on_hand and shipped must add up to the same as before: nothing was bought, and nothing was lost.")


class LedgerQuery(Exercise):
    """The ledger records money by adding rows."""

    name = "ledger-query"
    title = "Write the SQL that shows the ledger entries of one order"
    tip = "The table is `ledger_entries`, in payment's database. `%(order)s` stands for the order's id in the query."
    answer = 'answer = "SELECT effect, amount_cents FROM ledger_entries WHERE order_id = %(order)s"'
    why = (
        "The balance in `accounts` is a sum; the ledger explains it. Rows are only added to the ledger: a refund does "
        "not change the capture, it is a second row. Payment finds the rows by order_id, which every event carries."
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
            rows = bench.look.db.rows("payment", str(answer), order=bench.given.order)
        except QueryFailed as error:
            return wrong(f"PostgreSQL rejects the query: {error.problem}")
        if not {"effect", "amount_cents"} <= set(rows.columns):
            return wrong("The ledger is the table ledger_entries; show its columns effect and amount_cents.")
        truth = bench.shop.payments(bench.given.order)[0]["entries"]
        seen = sorted(zip(rows.effect, rows.amount_cents, strict=True))
        if seen == sorted((entry["effect"], entry["amount_cents"]) for entry in truth):
            return right("One capture, the order's total. A cancelled order that was paid has a refund, too.")
        return wrong(f"Your query returns {len(rows)} rows. Show only those of this order: WHERE order_id = ...")


class DirectCause(Exercise):
    """causation_id names the direct cause."""

    name = "direct-cause"
    title = "Which event led directly to ShipmentScheduled?"
    tip = (
        "look.kafka.record(given.order, 'ShipmentScheduled') shows its headers. Which event's "
        "ce_id equals its causation_id?"
    )
    answer = """
        events = look.kafka.events(look.kafka.take(5, given.order))
        cause = events.cause[events.type == "ShipmentScheduled"].item()
        answer = events.type[events.event == cause].item()
    """
    why = (
        "Shipping acted on PaymentCompleted and copied that event's id into its own event as causation_id. Follow "
        "these ids back from any event and you reach OrderCreated, which has none: a person caused it."
    )
    mistakes = (
        Wrong('answer = "OrderCreated"', "first event"),
        Wrong('answer = "InventoryReserved"', "payment"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = bench.shop.follow(bench.shop.place_order("leslie", "paris", {"matcha": 1}))
        return f"{order}", {"order": order.order_id}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        order = bench.given.order
        scheduled = bench.look.kafka.record(order, "ShipmentScheduled").record  # found by type, even among duplicates
        events = {view.record.headers["ce_id"]: view.record for view in bench.look.kafka.records(order)}
        cause = events[scheduled.headers["causation_id"]].type
        if answer == cause:
            return right(f"{cause}: its ce_id is the causation_id of ShipmentScheduled.")
        if answer == "OrderCreated":
            return wrong("That is the first event. causation_id names the event directly before; read that header.")
        return wrong("Shipping does not act on that one: it waits for an event of payment. Which one?")


class HowManyRecords(Exercise):
    """Five events, five records, four topics."""

    name = "how-many-records"
    title = "How many records does a completed order leave in Kafka?"
    tip = "Each service publishes one event. Which service publishes two?"
    answer = "answer = len(look.kafka.take(5, given.order))"
    why = (
        "Five: OrderCreated, InventoryReserved, PaymentCompleted, ShipmentScheduled, and OrderCompleted, with which "
        "the order service ends the saga: inventory then ships the goods, and shipping dispatches the parcel."
    )
    mistakes = (
        Wrong("answer = 4", "two"),
        Wrong("answer = 8", "statuses"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = bench.shop.follow(bench.shop.place_order("frances", "berlin", {"sencha": 1}))
        return f"{order}", {"order": order.order_id}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        bench.look.kafka.record(bench.given.order, "OrderCompleted")
        there = len(bench.look.kafka.records(bench.given.order))
        if answer == there:
            return right(f"{there}: one outbox row, one record, for each event.")
        if isinstance(answer, int) and answer < there:
            return wrong("One for each service, but one service publishes two: at the start and at the end.")
        return wrong("Count records, not statuses: one for each outbox row. look.kafka.records(...) has them.")


class UndoList(Exercise):
    """Only completed steps need an undo event."""

    name = "undo-list"
    title = "An order goes to a place that no carrier serves. Which events undo its effects?"
    tip = "Which steps had succeeded when shipping rejected the order? Each of these, and only these, needs an undo."
    answer = 'answer = {"InventoryReleased", "PaymentRefunded"}'
    why = (
        "Two steps had succeeded, the reservation and the payment, so two undo events follow: InventoryReleased and "
        "PaymentRefunded. There is no ShipmentCancelled: no shipment was scheduled. The order is CANCELLED only after "
        "both have arrived; until then it is CANCELLING."
    )
    mistakes = (
        Wrong('answer = {"InventoryReleased", "PaymentRefunded", "ShipmentCancelled"}', "never scheduled"),
        Wrong('answer = {"PaymentRefunded"}', "One more"),
        Wrong('answer = {"ShippingFailed"}', "reports the failure"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = bench.shop.place_order("barbara", "concordia-station", {"peppermint": 5})
        return f"{bench.shop.follow(order)}", {"order": order.order_id}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if isinstance(answer, str):
            answer = {answer}
        if not isinstance(answer, set | list | tuple) or not answer:
            return untouched("The answer is a set of event types: {'...', '...'}.")
        bench.look.kafka.record(bench.given.order, "OrderCancelled")
        seen = {view.record.type for view in bench.look.kafka.records(bench.given.order)} & UNDONE_BY
        if set(answer) == seen:
            return right(f"{' and '.join(sorted(seen))}: each step that had succeeded was undone, and nothing else.")
        if "ShipmentCancelled" in answer:
            return wrong(
                "The shipment was never scheduled: shipping rejected the order. A step that did not happen needs "
                "no undo."
            )
        if set(answer) - UNDONE_BY:
            return wrong(
                "One of your events reports the failure, or the end. Which events report that something was undone?"
            )
        return wrong("One more: which other step had succeeded before shipping rejected the order?")


EXERCISES: tuple[Exercise, ...] = (
    TotalInCents(),
    StockArithmetic(),
    LedgerQuery(),
    DirectCause(),
    HowManyRecords(),
    UndoList(),
)
