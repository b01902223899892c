"""Corruptions of a lab's data, each with the invariant that it violates. No service would write any of them."""

from __future__ import annotations

from dataclasses import dataclass

UUID = "'01890000-0000-7000-8000-000000000000'::uuid"
"""An ID that nothing has."""


@dataclass(frozen=True)
class Corruption:
    """Statements that corrupt one database.

    Attributes
    ----------
    service : str
        The service whose database is corrupted.
    statement : str
        SQL; the orders are parameters, by their outcome.
    violates : str
        The name of the invariant that it violates.
    keys : tuple of str
        Tables whose constraints are dropped first.
    """

    service: str
    statement: str
    violates: str
    keys: tuple[str, ...] = ()


BOUNDS, STOCK, REFUNDS, BALANCES, ZERO, TERMINAL, MONEY, HELD, KAFKA, INBOXES, EFFECTS = (
    "stock-is-within-bounds",
    "stock-adds-up",
    "refunds-are-within-captures",
    "balances-add-up",
    "no-balance-is-below-zero",
    "orders-are-terminal",
    "money-matches-orders",
    "nothing-is-held-for-cancelled-orders",
    "outboxes-are-in-kafka",
    "inboxes-hold-each-event-once",
    "each-effect-is-taken-once",
)

MOVE = "UPDATE products SET {} WHERE sku = 'earl-grey'"
REFUND = """
    INSERT INTO ledger_entries (entry_id, effect, customer_id, amount_cents, order_id, payment_id, event_id)
    SELECT gen_random_uuid(), 'refund', customer_id, amount_cents + {}, order_id, payment_id, event_id
    FROM ledger_entries WHERE order_id = %(completed)s"""
COPY = "INSERT INTO {table} SELECT * FROM {table} WHERE order_id = %({order})s {also}"
PAYLOAD = "UPDATE outbox SET payload = payload || '{}' WHERE aggregateid = %(completed)s AND type = '{}'"
PARK = """
    INSERT INTO parked_records (state, topic, partition, "offset", value, headers, attempts, permanent, error)
    SELECT {columns} FROM parked_records LIMIT 1"""

CORRUPTIONS = {
    # the stock
    "reserved is one more than on hand": Corruption(
        "inventory", MOVE.format("reserved = on_hand + 1"), BOUNDS, ("products",)
    ),
    "reserved is one below zero": Corruption("inventory", MOVE.format("reserved = -1"), BOUNDS, ("products",)),
    "shipped is one below zero": Corruption("inventory", MOVE.format("shipped = -1"), BOUNDS, ("products",)),
    "a piece too many on hand": Corruption("inventory", MOVE.format("on_hand = on_hand + 1"), STOCK),
    "a piece too few on hand": Corruption("inventory", MOVE.format("on_hand = on_hand - 1"), STOCK),
    "a piece reserved without a movement": Corruption("inventory", MOVE.format("reserved = reserved + 1"), STOCK),
    "a piece shipped without a movement": Corruption(
        "inventory", MOVE.format("shipped = shipped + 1, on_hand = on_hand - 1"), STOCK
    ),
    "opening stock twice": Corruption(
        "inventory",
        """INSERT INTO stock_movements (movement_id, effect, sku, quantity)
           SELECT gen_random_uuid(), 'opening', sku, 0 FROM products LIMIT 1""",
        STOCK,
    ),
    "a movement of an unknown product": Corruption(
        "inventory",
        """INSERT INTO stock_movements (movement_id, effect, sku, quantity)
           VALUES (gen_random_uuid(), 'restock', 'unheard-of', 1)""",
        STOCK,
    ),
    # the money
    "a cent too much refunded": Corruption("payment", REFUND.format("1"), REFUNDS),
    "a refund without a capture": Corruption(
        "payment",
        f"""INSERT INTO ledger_entries (entry_id, effect, customer_id, amount_cents, order_id, payment_id)
            VALUES (gen_random_uuid(), 'refund', 'ada', 1, {UUID}, {UUID})""",
        REFUNDS,
    ),
    "all refunded": Corruption("payment", REFUND.format("0"), MONEY),
    "a cent too few on an account": Corruption(
        "payment", "UPDATE accounts SET balance_cents = balance_cents - 1 WHERE customer_id = 'ada'", BALANCES
    ),
    "an opening balance twice": Corruption(
        "payment",
        """INSERT INTO ledger_entries (entry_id, effect, customer_id, amount_cents)
           VALUES (gen_random_uuid(), 'opening', 'ada', 0)""",
        BALANCES,
    ),
    "an entry of an unknown customer": Corruption(
        "payment",
        """INSERT INTO ledger_entries (entry_id, effect, customer_id, amount_cents)
           VALUES (gen_random_uuid(), 'deposit', 'mallory', 1)""",
        BALANCES,
    ),
    "a balance one below zero": Corruption(
        "payment", "UPDATE accounts SET balance_cents = -1 WHERE customer_id = 'ada'", ZERO, ("accounts",)
    ),
    "a balance far below zero": Corruption(
        "payment", "UPDATE accounts SET balance_cents = -1000000 WHERE customer_id = 'ada'", ZERO, ("accounts",)
    ),
    "a total one cent off": Corruption(
        "order", "UPDATE orders SET total_cents = total_cents + 1 WHERE order_id = %(completed)s", MONEY
    ),
    "items that do not add up": Corruption(
        "order",
        "UPDATE orders SET items = jsonb_set(items, '{0,unit_price_cents}', '1') WHERE order_id = %(completed)s",
        MONEY,
    ),
    "items of a cancelled order that do not add up": Corruption(
        "order", "UPDATE orders SET items = items || items WHERE order_id = %(cancelled)s", MONEY
    ),
    "a payment's amount one cent off": Corruption(
        "payment", "UPDATE payments SET amount_cents = amount_cents - 1 WHERE order_id = %(completed)s", MONEY
    ),
    "a refused payment's amount one cent off": Corruption(
        "payment", "UPDATE payments SET amount_cents = amount_cents + 1 WHERE order_id = %(declined)s", MONEY
    ),
    "a second capture": Corruption(
        "payment",
        COPY.format(table="ledger_entries", order="completed", also=""),
        MONEY,
        ("ledger_entries",),
    ),
    "a COMPLETED order is deleted": Corruption("order", "DELETE FROM orders WHERE order_id = %(completed)s", MONEY),
    "another price in inventory": Corruption(
        "inventory", "UPDATE products SET unit_price_cents = unit_price_cents + 1 WHERE sku = 'earl-grey'", MONEY
    ),
    # the order
    "an order is PAID": Corruption(
        "order", "UPDATE orders SET status = 'PAID' WHERE order_id = %(completed)s", TERMINAL
    ),
    "an order is CANCELLING": Corruption(
        "order", "UPDATE orders SET status = 'CANCELLING' WHERE order_id = %(cancelled)s", TERMINAL
    ),
    "a version one too high": Corruption(
        "order", "UPDATE orders SET version = version + 1 WHERE order_id = %(completed)s", TERMINAL
    ),
    "a status is missing in the history": Corruption(
        "order", "DELETE FROM order_history WHERE order_id = %(completed)s AND status = 'RESERVED'", TERMINAL
    ),
    "no history": Corruption("order", "DELETE FROM order_history WHERE order_id = %(completed)s", TERMINAL),
    "another reason": Corruption(
        "order", "UPDATE orders SET failure_reason = 'boredom' WHERE order_id = %(cancelled)s", TERMINAL
    ),
    "no reason in the history": Corruption(
        "order",
        "UPDATE order_history SET reason = NULL WHERE order_id = %(cancelled)s AND status = 'CANCELLED'",
        TERMINAL,
    ),
    "a reason for a COMPLETED order": Corruption(
        "order", "UPDATE orders SET failure_reason = 'no_carrier' WHERE order_id = %(completed)s", TERMINAL
    ),
    "no answers": Corruption("order", "DELETE FROM order_answers WHERE order_id = %(completed)s", EFFECTS),
    "one answer is missing": Corruption(
        "order",
        "DELETE FROM order_answers WHERE order_id = %(cancelled)s AND effect = 'payment undone'",
        EFFECTS,
    ),
    "an answer says the contrary": Corruption(
        "order",
        """UPDATE order_answers SET type = 'PaymentFailed', reason = 'insufficient_funds'
           WHERE order_id = %(completed)s AND effect = 'payment answered'""",
        EFFECTS,
    ),
    "an idempotency key without an order": Corruption(
        "order", f"UPDATE idempotency_keys SET order_id = {UUID}", EFFECTS
    ),
    "an idempotency key of another request": Corruption(
        "order", """UPDATE idempotency_keys SET request = request || '{"destination": "rome"}'""", EFFECTS
    ),
    # the three steps
    "a COMPLETED order without a shipment": Corruption(
        "shipping", "DELETE FROM shipments WHERE order_id = %(completed)s", EFFECTS
    ),
    "a COMPLETED order without a shipment and its booking": Corruption(
        "shipping",
        """WITH booked AS (DELETE FROM carrier_bookings WHERE order_id = %(completed)s)
           DELETE FROM shipments WHERE order_id = %(completed)s""",
        EFFECTS,
    ),
    "its shipment is still SCHEDULED": Corruption(
        "shipping", "UPDATE shipments SET status = 'SCHEDULED' WHERE order_id = %(completed)s", EFFECTS
    ),
    "its shipment is SCHEDULED, and was not dispatched": Corruption(
        "shipping",
        """WITH dispatched AS (DELETE FROM carrier_bookings WHERE order_id = %(completed)s AND effect = 'dispatch')
           UPDATE shipments SET status = 'SCHEDULED' WHERE order_id = %(completed)s""",
        EFFECTS,
    ),
    "its shipment is CANCELLED": Corruption(
        "shipping", "UPDATE shipments SET status = 'CANCELLED' WHERE order_id = %(completed)s", EFFECTS
    ),
    "its shipment is there twice": Corruption(
        "shipping",
        """INSERT INTO shipments (shipment_id, order_id, destination, carrier, status)
           SELECT gen_random_uuid(), order_id, destination, carrier, status FROM shipments
           WHERE order_id = %(completed)s""",
        EFFECTS,
        ("shipments",),
    ),
    "a shipment is SCHEDULED for a CANCELLED order": Corruption(
        "shipping", "UPDATE shipments SET status = 'SCHEDULED' WHERE order_id = %(shipped_back)s", HELD
    ),
    "a shipment is DISPATCHED for a CANCELLED order": Corruption(
        "shipping", "UPDATE shipments SET status = 'DISPATCHED' WHERE order_id = %(shipped_back)s", HELD
    ),
    "another carrier": Corruption(
        "shipping", "UPDATE shipments SET carrier = 'pigeon' WHERE order_id = %(completed)s", EFFECTS
    ),
    "another destination": Corruption(
        "shipping", "UPDATE shipments SET destination = 'rome' WHERE order_id = %(completed)s", EFFECTS
    ),
    "a booking is there twice": Corruption(
        "shipping",
        COPY.format(table="carrier_bookings", order="completed", also="AND effect = 'dispatch'"),
        EFFECTS,
        ("carrier_bookings",),
    ),
    "a COMPLETED order without a stock movement": Corruption(
        "inventory",
        """WITH gone AS (DELETE FROM stock_movements WHERE order_id = %(completed)s RETURNING effect, sku, quantity)
           UPDATE products SET on_hand = on_hand + quantity, shipped = shipped - quantity
           FROM gone WHERE gone.effect = 'ship' AND gone.sku = products.sku""",
        EFFECTS,
    ),
    "a movement is there twice": Corruption(
        "inventory",
        COPY.format(table="stock_movements", order="completed", also="AND effect = 'ship'"),
        EFFECTS,
        ("stock_movements",),
    ),
    "a movement of another quantity": Corruption(
        "inventory", "UPDATE stock_movements SET quantity = quantity + 1 WHERE order_id = %(cancelled)s", EFFECTS
    ),
    "a reservation is RESERVED for a CANCELLED order": Corruption(
        "inventory", "UPDATE reservations SET status = 'RESERVED' WHERE order_id = %(cancelled)s", HELD
    ),
    "goods are not released for a CANCELLED order": Corruption(
        "inventory", "DELETE FROM stock_movements WHERE order_id = %(cancelled)s AND effect = 'release'", HELD
    ),
    "a reservation of other goods": Corruption(
        "inventory",
        "UPDATE reservations SET lines = jsonb_set(lines, '{0,quantity}', '7') WHERE order_id = %(refused)s",
        EFFECTS,
    ),
    "no payment": Corruption("payment", "DELETE FROM payments WHERE order_id = %(completed)s", EFFECTS),
    "a payment that is REFUNDED": Corruption(
        "payment", "UPDATE payments SET status = 'REFUNDED' WHERE order_id = %(completed)s", EFFECTS
    ),
    "a payment that is not REFUNDED": Corruption(
        "payment", "UPDATE payments SET status = 'COMPLETED' WHERE order_id = %(cancelled)s", EFFECTS
    ),
    "another reason of a refusal": Corruption(
        "payment", "UPDATE payments SET failure_reason = 'no_carrier' WHERE order_id = %(declined)s", EFFECTS
    ),
    # the events
    "an event's amount is one cent off": Corruption(
        "payment", PAYLOAD.format('{"amount_cents": 1}', "PaymentCompleted"), KAFKA
    ),
    "an event's total is one cent off": Corruption(
        "order", PAYLOAD.format('{"total_cents": 1}', "OrderCreated"), KAFKA
    ),
    "an event has another time": Corruption(
        "order", "UPDATE outbox SET created_at = created_at + interval '1 microsecond'", KAFKA
    ),
    "OrderCompleted is deleted": Corruption(
        "order", "DELETE FROM outbox WHERE aggregateid = %(completed)s AND type = 'OrderCompleted'", KAFKA
    ),
    "OrderCancelled is deleted": Corruption(
        "order", "DELETE FROM outbox WHERE aggregateid = %(cancelled)s AND type = 'OrderCancelled'", KAFKA
    ),
    "an event that Kafka does not have": Corruption(
        "payment",
        "UPDATE outbox SET id = gen_random_uuid() WHERE aggregateid = %(completed)s AND type = 'PaymentCompleted'",
        KAFKA,
    ),
    "an event is there twice": Corruption(
        "payment",
        "INSERT INTO outbox SELECT * FROM outbox WHERE aggregateid = %(completed)s",
        EFFECTS,
        ("outbox",),
    ),
    "an event has the cause of another order": Corruption(
        "payment",
        """UPDATE outbox SET causation_id = (SELECT causation_id FROM outbox WHERE aggregateid = %(cancelled)s LIMIT 1)
           WHERE aggregateid = %(completed)s""",
        EFFECTS,
    ),
    # the inboxes
    "an event is missing in an inbox": Corruption(
        "inventory", "DELETE FROM inbox WHERE type = 'OrderCreated'", INBOXES
    ),
    "an event is in an inbox twice": Corruption(
        "shipping", "INSERT INTO inbox SELECT * FROM inbox WHERE type = 'OrderCompleted'", INBOXES, ("inbox",)
    ),
    "an inbox row of an unknown event": Corruption(
        "payment", "UPDATE inbox SET event_id = gen_random_uuid() WHERE type = 'InventoryReserved'", INBOXES
    ),
    "an inbox row one offset off": Corruption("payment", 'UPDATE inbox SET "offset" = "offset" + 1', INBOXES),
    "a dead letter that was never published": Corruption(
        "inventory",
        PARK.format(columns="""'dead', topic, partition, "offset", value, headers, attempts, permanent, error"""),
        INBOXES,
        ("parked_records",),
    ),
    "a dead letter with another content": Corruption("inventory", "UPDATE parked_records SET value = '[]'", INBOXES),
}
