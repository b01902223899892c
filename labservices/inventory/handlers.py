"""The event handlers of the inventory service."""

from typing import Any

from sqlalchemy import Row, text

from labservices.events import (
    ErrorEvent,
    Event,
    InventoryReleased,
    InventoryReservationFailed,
    InventoryReserved,
    OrderCompleted,
    OrderCreated,
    error_events_for,
)
from labservices.ids import uuid7
from labservices.inventory import domain
from labservices.inventory.domain import Refuse, Reserve, Status
from labservices.inventory.tables import reservations, stock_movements
from labservices.service import Handler
from labservices.storage.database import Transaction


def on_order_created(tx: Transaction, event: OrderCreated) -> None:
    """Reserve the goods and publish `InventoryReserved`, or publish `InventoryReservationFailed` with the reason."""
    row = _reservation(tx, event)
    wanted = domain.quantities(event.items)
    match domain.reserve(Status(row.status), wanted, _lock_stock(tx, wanted)):
        case Reserve():
            tx.move(reservations, event.order_id, row.status, status=Status.RESERVED)
            _move_stock(tx, event, "reserve", wanted)
            tx.publish(InventoryReserved.about(event, reservation_id=row.reservation_id))
        case Refuse(reason, shortages):
            tx.move(reservations, event.order_id, row.status, status=Status.FAILED, failure_reason=reason)
            tx.publish(
                InventoryReservationFailed.about(
                    event, reservation_id=row.reservation_id, reason=reason, shortages=list(shortages)
                )
            )


def on_error(tx: Transaction, event: ErrorEvent) -> None:
    """Release the goods of a failed or cancelled order, or leave a tombstone so that none are reserved later."""
    row = _reservation(tx, event)
    match domain.undo(Status(row.status)):
        case Status.TOMBSTONE:
            tx.move(reservations, event.order_id, row.status, status=Status.TOMBSTONE)
        case Status.RELEASED:
            tx.move(reservations, event.order_id, row.status, status=Status.RELEASED)
            wanted = domain.quantities(event.items)
            _lock_stock(tx, wanted)
            _move_stock(tx, event, "release", wanted)
            tx.publish(InventoryReleased.about(event, reservation_id=row.reservation_id))


def on_order_completed(tx: Transaction, event: OrderCompleted) -> None:
    """Ship the goods, since the order is past its pivot."""
    row = _reservation(tx, event)
    if domain.complete(Status(row.status)):
        tx.move(reservations, event.order_id, row.status, status=Status.SHIPPED)
        wanted = domain.quantities(event.items)
        _lock_stock(tx, wanted)
        _move_stock(tx, event, "ship", wanted)


HANDLERS: dict[type[Event], Handler] = {
    OrderCreated: on_order_created,
    OrderCompleted: on_order_completed,
    **dict.fromkeys(error_events_for("inventory"), on_error),
}


def _reservation(tx: Transaction, event: Event) -> Row[Any]:
    lines = [{"sku": sku, "quantity": quantity} for sku, quantity in domain.quantities(event.items).items()]
    values = {"reservation_id": uuid7(), "order_id": event.order_id, "status": Status.NEW, "lines": lines}
    return tx.insert_or_lock(reservations, values)


_LOCK_STOCK = text(
    "SELECT sku, on_hand - reserved AS available FROM products WHERE sku = ANY(:skus) ORDER BY sku FOR UPDATE"
)

_ADD_MOVEMENT = stock_movements.insert()

_MOVE_STOCK = {
    effect: text(
        f"""
        UPDATE products SET {changes}
        FROM unnest(CAST(:skus AS text[]), CAST(:quantities AS bigint[])) AS line (sku, quantity)
        WHERE products.sku = line.sku
        """
    )
    for effect, changes in {
        "reserve": "reserved = reserved + line.quantity",
        "release": "reserved = reserved - line.quantity",
        "ship": "reserved = reserved - line.quantity, on_hand = on_hand - line.quantity, "
        "shipped = shipped + line.quantity",
    }.items()
}


def _lock_stock(tx: Transaction, wanted: dict[str, int]) -> dict[str, int]:
    """Lock the products, in a fixed order to avoid deadlocks, and return their available quantities."""
    return {row.sku: row.available for row in tx.execute(_LOCK_STOCK, {"skus": list(wanted)})}


def _move_stock(tx: Transaction, event: Event, effect: str, wanted: dict[str, int]) -> None:
    """Update the stock, and add the matching stock movements, with one statement each for all products."""
    tx.execute(_MOVE_STOCK[effect], {"skus": list(wanted), "quantities": list(wanted.values())})
    movement = {"effect": effect, "order_id": event.order_id, "event_id": tx.cause}
    tx.execute(
        _ADD_MOVEMENT,
        [movement | {"movement_id": uuid7(), "sku": sku, "quantity": quantity} for sku, quantity in wanted.items()],
    )
