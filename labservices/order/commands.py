"""The commands of the order service: place an order, and cancel it."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, select, text
from sqlalchemy.dialects.postgresql import insert

from labservices.events import CANCELLED_BY_CUSTOMER, Line, OrderCancelRequested, OrderCreated
from labservices.ids import uuid7
from labservices.order import domain
from labservices.order.domain import Change, Status
from labservices.order.handlers import change_status, facts, lock_order
from labservices.order.pricing import Price, listed_price
from labservices.order.tables import idempotency_keys, order_history, orders
from labservices.storage.database import Transaction


class UnknownSkus(Exception):
    """Some lines name products that are not in the catalogue; ``lines`` has the indexes of these lines."""

    def __init__(self, lines: list[int]) -> None:
        super().__init__(lines)
        self.lines = lines


class KeyTaken(Exception):
    """The idempotency key was used with another request."""


# Statements that are built once, so that SQLAlchemy need not process them at every call.
_ADD_ORDER = orders.insert().returning(orders)
_ADD_TO_HISTORY = order_history.insert()


def place(
    tx: Transaction, request: dict[str, Any], key: str | None, price: Price = listed_price
) -> tuple[Row[Any], bool]:
    """Place an order: insert the order and its first status, and publish its event, all in one transaction.

    Parameters
    ----------
    tx
        The transaction.
    request
        ``customer_id``, ``destination`` and ``items`` (each with ``sku`` and ``quantity``), already validated.
    key
        The client's idempotency key. The same request with the same key does not create a second order.
    price
        The pricing rule: the price of a piece, given its listed price and the ordered quantity.

    Returns
    -------
    tuple
        The order, and whether it is new.

    Raises
    ------
    UnknownSkus
        If a line names a product that is not in the catalogue. Nothing is changed.
    KeyTaken
        If the key was used with another request. Nothing is changed.
    """
    items, currency = _price(tx, request["items"], price)
    order_id = uuid7()
    if key is not None and (earlier := _store_key(tx, key, request, order_id)):
        return earlier, False
    values = {
        "order_id": order_id,
        "customer_id": request["customer_id"],
        "destination": request["destination"],
        "items": items,
        "total_cents": sum(line["quantity"] * line["unit_price_cents"] for line in items),
        "currency": currency,
        "status": Status.PENDING,
        "version": 1,
    }
    order = tx.execute(_ADD_ORDER, values).one()
    event_id = tx.publish(OrderCreated(**facts(order)))
    tx.execute(_ADD_TO_HISTORY, {"order_id": order_id, "version": 1, "status": Status.PENDING, "event_id": event_id})
    return order, True


def cancel(tx: Transaction, order_id: UUID) -> Row[Any] | None:
    """Cancel an order unless it is already cancelled; return the order, or None if it does not exist.

    Raises
    ------
    TooLate
        If the order is COMPLETED.
    """
    order = lock_order(tx, order_id)
    if order is None or not domain.cancel(Status(order.status)):
        return order
    event_id = tx.publish(OrderCancelRequested(**facts(order), reason=CANCELLED_BY_CUSTOMER))
    change_status(tx, order, [Change(Status.CANCELLING, CANCELLED_BY_CUSTOMER, event_id)])
    return read_order(tx, order_id)


_READ_ORDER = select(orders).where(orders.c.order_id == bindparam("order_id"))


def read_order(tx: Transaction, order_id: UUID) -> Row[Any] | None:
    """Read an order without locking it."""
    return tx.execute(_READ_ORDER, {"order_id": order_id}).one_or_none()


_FIND_PRODUCTS = text("SELECT sku, unit_price_cents, currency FROM catalogue WHERE sku = ANY(:skus)")


def _price(tx: Transaction, wanted: list[dict[str, Any]], price: Price) -> tuple[list[dict[str, Any]], str]:
    """Return the lines with their current prices, and the currency."""
    skus = {line["sku"] for line in wanted}
    known = {row.sku: row for row in tx.execute(_FIND_PRODUCTS, {"skus": list(skus)})}
    unknown = [number for number, line in enumerate(wanted) if line["sku"] not in known]
    if unknown:
        raise UnknownSkus(unknown)
    items = []
    for line in wanted:
        cents = price(known[line["sku"]].unit_price_cents, line["quantity"])
        items.append(Line(**line, unit_price_cents=cents).model_dump())
    return items, known[wanted[0]["sku"]].currency


def _store_key(tx: Transaction, key: str, request: dict[str, Any], order_id: UUID) -> Row[Any] | None:
    """Store the key for a new order; return the earlier order with this key, or None if the key is new.

    Of two concurrent requests with the same key, the second waits here until the first one's transaction ends, and then
    finds its order.
    """
    insert_key = insert(idempotency_keys).on_conflict_do_nothing().returning(idempotency_keys.c.key)
    if tx.execute(insert_key, {"key": key, "request": request, "order_id": order_id}).first():
        return None
    earlier = tx.execute(select(idempotency_keys).where(idempotency_keys.c.key == key)).one()
    if earlier.request != request:
        raise KeyTaken
    return read_order(tx, earlier.order_id)
