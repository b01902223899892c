"""Crashes between two writes: setup and cleanup for the exercises of notebook 06."""

from __future__ import annotations

from contextlib import suppress

from labkit.errors import NotFound, ShopUnavailable
from labkit.exercises.base import Bench
from labkit.waiting import wait_until
from labservices.contract import TERMINAL

CANCEL_EVENTS = ["OrderCancelRequested", "OrderTimedOut"]
DELETE_ATTEMPTS = """
    DELETE FROM outbox
    WHERE aggregateid = %(order)s AND (type <> ALL (%(cancel_events)s) OR NOT payload ?& '{reason,items}')
"""
INSERT_EVENT = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
    SELECT gen_random_uuid(), 'order', %(order)s::uuid, %(type)s::text, %(payload)s::jsonb,
           'urn:sagalab:' || %(type)s::text || ':1.0', 'urn:sagalab:order'
    WHERE %(type)s::text <> ALL (%(cancel_events)s)
       OR NOT EXISTS (SELECT FROM outbox WHERE aggregateid = %(order)s AND type = ANY (%(cancel_events)s))
    ON CONFLICT DO NOTHING
"""
INSERT_ORDER = """
    WITH cancelled AS (
        SELECT id, payload AS p, payload ->> 'reason' AS reason FROM outbox
        WHERE aggregateid = %(order)s AND type = ANY(%(cancel_events)s) ORDER BY created_at LIMIT 1
    ), made AS (
        INSERT INTO orders
            (order_id, customer_id, destination, items, total_cents, currency, status, failure_reason, version)
        SELECT (p ->> 'order_id')::uuid, p ->> 'customer_id', p ->> 'destination', p -> 'items',
               (p ->> 'total_cents')::bigint, p ->> 'currency', 'CANCELLING', reason, 2
        FROM cancelled
        ON CONFLICT DO NOTHING
        RETURNING order_id
    )
    INSERT INTO order_history (order_id, version, status, reason, event_id)
    SELECT order_id, 1, 'PENDING', NULL, %(created)s::uuid FROM made
    UNION ALL
    SELECT order_id, 2, 'CANCELLING', reason, id FROM made, cancelled
"""


def crash(bench: Bench, when: str, key: str | None = None) -> None:
    """Crash the order service between its two writes of an order, and restart it without the fault switch."""
    bench.lab.faults.on("order", "dual-write", f"crash-{when}-commit")
    try:
        with suppress(ShopUnavailable):
            bench.shop.place_order("grace", "rome", {"rooibos": 1}, key=key)
    finally:
        bench.lab.faults.off("order")


def create_lost_order(bench: Bench, key: str | None = None) -> str:
    """Commit an order whose event is lost, and return its id."""
    crash(bench, "after", key)
    return next(bench.shop.orders(limit="1")).order_id


def create_ghost_order(bench: Bench) -> str:
    """Publish the event of an order that is never committed, and return the order's id."""
    before = published_orders(bench)
    crash(bench, "before")
    (ghost,) = published_orders(bench) - before
    bench.look.kafka.record(ghost, "ShipmentScheduled")
    return ghost


def published_orders(bench: Bench) -> set[str]:
    """Return the ids of all orders with an OrderCreated in Kafka."""
    views = bench.look.kafka.records(topic="order.events")
    return {view.record.key or "" for view in views if view.record.type == "OrderCreated"}


def publish_lost_order(bench: Bench, order: str) -> str:
    """Write the event that the crash prevented, and wait until the order ends."""
    with suppress(NotFound):
        if bench.shop.order(order).status not in TERMINAL:
            with bench.look.db.connect("order") as db:
                row = db.execute("SELECT to_jsonb(orders)::text FROM orders WHERE order_id = %s", [order]).fetchone()
            assert row is not None  # the shop has just returned the order
            _insert_event(bench, order, "OrderCreated", row[0])
            _wait_until_final(bench, order)
    return "The missing row is written, and the order has ended."


def undo_ghost_order(bench: Bench, ghost: str) -> str:
    """Undo the effects of a ghost order, and insert its row, so that the order service can record the answers."""
    created = [view for view in bench.look.kafka.records(ghost, "order.events") if view.record.type == "OrderCreated"]
    if not created:
        return "The ghost order is gone since the reset."
    payload = (created[0].record.value or b"").decode()
    _insert_event(bench, ghost, "OrderTimedOut", payload[:-1] + ', "reason": "deadline_exceeded"}')
    facts = {"order": ghost, "cancel_events": CANCEL_EVENTS, "created": created[0].record.headers["ce_id"]}
    with bench.look.db.connect("order") as db:
        db.execute(INSERT_ORDER, facts)
    _wait_until_final(bench, ghost)
    return "All effects of the ghost order are undone."


def _insert_event(bench: Bench, order: str, event: str, payload: str) -> None:
    """Write an outbox row as the order service, in place of a learner's attempts.

    A learner's valid cancellation stays, and a second one is not written.
    """
    facts = {"order": order, "type": event, "payload": payload, "cancel_events": CANCEL_EVENTS}
    with bench.look.db.connect("order") as db:
        db.execute(DELETE_ATTEMPTS, facts)
        db.execute(INSERT_EVENT, facts)


def _wait_until_final(bench: Bench, order: str) -> None:
    """Wait until an order ends.

    The order service can handle its dead letters for the order now, so they are replayed. Those of other services are
    not valid events, so they are discarded.
    """

    def is_final() -> bool:
        dead_letters = bench.lab.dead_letters
        for letter in dead_letters.all():
            if letter.order_id == order:
                resolve = dead_letters.replay if letter.service == "order" else dead_letters.discard
                resolve(letter.id)
        return bench.shop.order(order).status in TERMINAL

    wait_until(is_final, 40, what="the order to end")
