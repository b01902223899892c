"""The exercises of notebook 01."""

from __future__ import annotations

from typing import Any

from labkit.errors import QueryFailed
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.building.causal_chain import CausalChain
from labkit.exercises.building.read_to_the_end import ReadToTheEnd
from labservices.contract import PUBLISHES

UNDONE_BY = {"InventoryReleased", "PaymentRefunded", "ShipmentCancelled"}
TYPES = {event for events in PUBLISHES.values() for event in events}


class TotalInCents(Exercise):
    """Money is an integer, and the price comes from the service's own catalogue."""

    name = "total-in-cents"
    title = "Write the SQL that recalculates what orders cost"
    kind = "query"
    level = 2
    minutes = 10
    hints = (
        "The lines are a JSON array in orders.items, the prices in the table catalogue; both are in the order "
        "service's database. What does one line cost, and what makes one sum of several lines?",
        "jsonb_to_recordset(items) AS line(sku text, quantity int) makes rows of the array; then JOIN catalogue "
        "USING (sku), and sum(...) with GROUP BY order_id.",
        "It begins:\n    SELECT order_id, sum(line.quantity * catalogue.unit_price_cents) AS cents\n"
        "    FROM orders, jsonb_to_recordset(items) AS line(sku text, quantity int)",
    )
    answer = '''
        answer = """
            SELECT order_id, sum(line.quantity * catalogue.unit_price_cents) AS cents
            FROM orders, jsonb_to_recordset(items) AS line(sku text, quantity int) JOIN catalogue USING (sku)
            WHERE order_id = ANY(%(orders)s::uuid[]) GROUP BY order_id
        """
    '''
    why = (
        "Money is an integer in minor units, with its currency next to it: a float would lose a cent one day. The "
        "price comes from the order service's own copy of the catalogue, so it depends on no other service; and it "
        "is written into the order, since tomorrow's catalogue has other prices. (Compared with total_cents, this "
        "query is an audit.)"
    )
    mistakes = (
        Wrong(
            '''
            answer = """
                SELECT order_id, sum(unit_price_cents) AS cents
                FROM orders, jsonb_to_recordset(items) AS line(sku text) JOIN catalogue USING (sku)
                WHERE order_id = ANY(%(orders)s::uuid[]) GROUP BY order_id"""
            ''',
            "for one",
        ),
        Wrong(
            '''
            answer = """
                SELECT order_id, quantity * catalogue.unit_price_cents AS cents
                FROM orders, jsonb_to_recordset(items) AS line(sku text, quantity int) JOIN catalogue USING (sku)
                WHERE order_id = ANY(%(orders)s::uuid[])"""
            ''',
            "one row",
        ),
        Wrong(
            '''
            answer = """
                SELECT order_id, sum(quantity * catalogue.unit_price_cents) / 100.0 AS cents
                FROM orders, jsonb_to_recordset(items) AS line(sku text, quantity int) JOIN catalogue USING (sku)
                WHERE order_id = ANY(%(orders)s::uuid[]) GROUP BY order_id"""
            ''',
            "euros",
        ),
        Wrong('answer = "SELECT order_id, total FROM orders"', "PostgreSQL"),
        Wrong('answer = "SELECT sum(unit_price_cents) AS cents FROM catalogue"', "columns"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        baskets: list[dict[str, Any]] = [{"sencha": 3, "glass-teapot": 1}, {"matcha": 2}]
        orders = [bench.shop.place_order("ada", "lisbon", basket) for basket in baskets]
        shown = [f"{order.alias}: {basket}" for order, basket in zip(orders, baskets, strict=True)]
        return "\n".join(shown), {"orders": [order.order_id for order in orders]}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            rows = bench.look.db.rows("order", str(answer), orders=bench.given.orders)
        except QueryFailed as error:
            return wrong(f"PostgreSQL rejects the query: {error.problem}")
        if not {"order_id", "cents"} <= set(rows.columns):
            return wrong("The result needs the columns order_id and cents.")
        found = {bench.shop.id(str(order)): cents for order, cents in zip(rows.order_id, rows.cents, strict=True)}
        orders = [bench.shop.order(order) for order in bench.given.orders]
        totals = {order.order_id: order.total_cents for order in orders}
        if len(rows) > len(found):
            return wrong(
                f"{len(rows)} rows for {len(found)} orders: a join with other tables counts an order "
                "twice. Return one row for each order."
            )
        if set(found) != set(totals):
            return wrong(f"The result has {len(found)} orders. Show the two of %(orders)s.")
        if found == totals:
            return right(f"{' and '.join(map(str, totals.values()))} cents, as the orders have them.")
        one = orders[0]
        seen = found[one.order_id]
        if abs(float(seen) * 100 - one.total_cents) < 1:
            return wrong("These are euros, with a fraction that a float would round. The services count in cents.")
        if seen == sum(line["unit_price_cents"] for line in one.document["items"]):
            return wrong(f"{seen} cents is the price for one of each: the shop would give two packs of sencha away.")
        return wrong(f"{one.alias} costs {one.total_cents} cents; your query would charge {seen}.")


MOVEMENTS = """
    INSERT INTO stock_movements (movement_id, effect, sku, quantity, order_id)
    SELECT gen_random_uuid(), effect, 'probe', quantity,
           CASE WHEN buyer > 0 THEN ('00000000-0000-4000-8000-00000000000' || buyer)::uuid END
    FROM (VALUES ('opening', 10, 0), ('restock', 5, 0), ('reserve', 4, 1), ('ship', 4, 1), ('reserve', 3, 2),
                 ('release', 3, 2), ('reserve', 2, 3)) AS made (effect, quantity, buyer)
"""
STOCK = {"on_hand": 11, "reserved": 2, "shipped": 4}
"""The stock that these movements leave."""


class StockArithmetic(Exercise):
    """Stock is the sum of its movements."""

    name = "stock-arithmetic"
    title = "Write the SQL that calculates a product's stock from its movements"
    kind = "query"
    level = 2
    minutes = 8
    hints = (
        "SELECT * FROM stock_movements for one sku: which effects are there, and which of on_hand, reserved and "
        "shipped does each one raise or lower? A parcel that leaves changes all three.",
        "sum(CASE effect WHEN 'reserve' THEN quantity WHEN 'release' THEN -quantity ... ELSE 0 END) AS reserved, "
        "once for each of the three columns; or sum(quantity) FILTER (WHERE effect = ...).",
        "It begins:\n    SELECT sum(CASE WHEN effect IN ('opening', 'restock') THEN quantity WHEN effect = 'ship' THEN "
        "-quantity ELSE 0 END) AS on_hand,",
    )
    answer = '''
        answer = """
            SELECT sum(CASE WHEN effect IN ('opening', 'restock') THEN quantity
                            WHEN effect = 'ship' THEN -quantity ELSE 0 END) AS on_hand,
                   sum(CASE WHEN effect = 'reserve' THEN quantity
                            WHEN effect IN ('release', 'ship') THEN -quantity ELSE 0 END) AS reserved,
                   sum(CASE WHEN effect = 'ship' THEN quantity ELSE 0 END) AS shipped
            FROM stock_movements WHERE sku = %(sku)s
        """
    '''
    why = (
        "A reservation promises goods that stay in the warehouse; a shipment takes them out of both: on_hand and "
        "reserved fall, shipped rises. So on_hand + shipped changes only with a restock, and the three columns of "
        "products can be checked against the movements at any time, which is what the referee does."
    )
    mistakes = (
        Wrong(
            '''
            answer = """
                SELECT sum(CASE WHEN effect IN ('opening', 'restock') THEN quantity
                                WHEN effect = 'ship' THEN -quantity ELSE 0 END) AS on_hand,
                       sum(CASE WHEN effect = 'reserve' THEN quantity
                                WHEN effect = 'release' THEN -quantity ELSE 0 END) AS reserved,
                       sum(CASE WHEN effect = 'ship' THEN quantity ELSE 0 END) AS shipped
                FROM stock_movements WHERE sku = %(sku)s"""
            ''',
            "has left",
        ),
        Wrong(
            '''
            answer = """
                SELECT sum(CASE WHEN effect IN ('opening', 'restock') THEN quantity
                                WHEN effect = 'reserve' THEN -quantity ELSE 0 END) AS on_hand,
                       sum(CASE WHEN effect = 'reserve' THEN quantity
                                WHEN effect IN ('release', 'ship') THEN -quantity ELSE 0 END) AS reserved,
                       sum(CASE WHEN effect = 'ship' THEN quantity ELSE 0 END) AS shipped
                FROM stock_movements WHERE sku = %(sku)s"""
            ''',
            "on_hand",
        ),
        Wrong('answer = "SELECT on_hand, reserved, shipped FROM products WHERE sku = %(sku)s"', "movements"),
        Wrong('answer = "SELECT sum(quantity) AS on_hand FROM stock_movements WHERE sku = %(sku)s"', "columns"),
        Wrong('answer = "SELECT on_hand FROM movements"', "PostgreSQL"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            rows = bench.look.db.rows("inventory", str(answer), sku="rooibos")  # read-only: it can change nothing
        except QueryFailed as error:
            return wrong(f"PostgreSQL rejects the query: {error.problem}")
        if not STOCK.keys() <= set(rows.columns) or len(rows) != 1:
            return wrong("The result is one row with the columns on_hand, reserved and shipped.")
        with bench.look.db.connect("inventory") as db:
            db.execute(MOVEMENTS)
            cursor = db.execute(str(answer).encode(), {"sku": "probe"})
            columns = [column.name for column in cursor.description or ()]
            row = cursor.fetchone()
            db.rollback()
        found = dict(zip(columns, row or (), strict=False))
        if not found:
            return wrong(
                "For a product that has movements and no row in products, the query finds nothing: use the movements."
            )
        if all(found[name] == expected for name, expected in STOCK.items()):
            return right(
                "10 opened, 5 restocked, 4 sold, 3 released and 2 promised: on_hand 11, reserved 2, shipped 4."
            )
        if found["reserved"] == STOCK["reserved"] + STOCK["shipped"]:
            return wrong(
                "The parcel has left, and its 4 packs still count as reserved: the shop would never sell these again."
            )
        name = next(name for name, expected in STOCK.items() if found[name] != expected)
        return wrong(
            f"10 opened, 5 restocked, 4 reserved and shipped, 3 reserved and released, 2 reserved: {name} is "
            f"{found[name]} in your result, and the shelf has {STOCK[name]}."
        )


class LedgerQuery(Exercise):
    """The ledger records money by adding rows."""

    name = "ledger-query"
    title = "Write the SQL that shows the ledger entries of one order"
    kind = "query"
    level = 1
    minutes = 2
    hints = (
        "The balance of an account is a sum; another table of payment's database has its rows.",
        "The table is ledger_entries. `%(order)s` stands for the order's id; show effect and amount_cents.",
        "It begins:\n    SELECT effect, amount_cents FROM ledger_entries WHERE ...",
    )
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


class UndoList(Exercise):
    """Only completed steps need an undo event."""

    name = "undo-list"
    title = "An order goes to a place that no carrier serves. Which events undo its effects?"
    kind = "recall"
    level = 1
    minutes = 2
    hints = (
        "Which steps had succeeded when shipping rejected the order? These, and only these, need an undo.",
        "look.kafka.events(look.kafka.records(given.order)) shows every event of this order with its type.",
        "It is a set of two names: one of inventory's events, and one of payment's.",
    )
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
        Wrong('answer = {"PaymentRefunded", "InventoryRelease"}', "the exact names"),
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
        if unknown := {str(name) for name in answer} - TYPES:
            return wrong(f"No event has the type {min(unknown)}. The events of the order show the exact names.")
        if set(answer) - UNDONE_BY:
            return wrong(
                "One of your events reports the failure, or the end. Which events report that something was undone?"
            )
        return wrong("One more: which other step had succeeded before shipping rejected the order?")


EXERCISES: tuple[Exercise, ...] = (
    LedgerQuery(),
    TotalInCents(),
    StockArithmetic(),
    CausalChain(),
    ReadToTheEnd(),
    UndoList(),
)
