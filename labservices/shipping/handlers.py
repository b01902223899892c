"""The event handlers of the shipping service."""

from typing import Any

from sqlalchemy import Row, bindparam, select

from labservices.events import (
    ErrorEvent,
    Event,
    OrderCompleted,
    PaymentCompleted,
    ShipmentCancelled,
    ShipmentScheduled,
    ShippingFailed,
    error_events_for,
)
from labservices.ids import uuid7
from labservices.service import Handler
from labservices.shipping import domain
from labservices.shipping.domain import Refuse, Schedule, Status
from labservices.shipping.tables import carrier_bookings, destinations, shipments
from labservices.storage.database import Transaction


def on_payment_completed(tx: Transaction, event: PaymentCompleted) -> None:
    """Schedule the shipment and publish `ShipmentScheduled`, or publish `ShippingFailed` with the reason."""
    row = _shipment(tx, event)
    match domain.schedule(Status(row.status), _find_carrier(tx, event.destination)):
        case Schedule(carrier):
            tx.move(shipments, event.order_id, row.status, status=Status.SCHEDULED, carrier=carrier)
            _book(tx, row, "schedule", carrier)
            tx.publish(ShipmentScheduled.about(event, shipment_id=row.shipment_id, carrier=carrier))
        case Refuse(reason):
            tx.move(shipments, event.order_id, row.status, status=Status.FAILED, failure_reason=reason)
            tx.publish(ShippingFailed.about(event, shipment_id=row.shipment_id, reason=reason))


def on_error(tx: Transaction, event: ErrorEvent) -> None:
    """Cancel the shipment of a failed or cancelled order, or leave a tombstone so that none is scheduled later."""
    row = _shipment(tx, event)
    match domain.undo(Status(row.status)):
        case Status.TOMBSTONE:
            tx.move(shipments, event.order_id, row.status, status=Status.TOMBSTONE)
        case Status.CANCELLED:
            tx.move(shipments, event.order_id, row.status, status=Status.CANCELLED)
            _book(tx, row, "cancel", row.carrier)
            tx.publish(ShipmentCancelled.about(event, shipment_id=row.shipment_id, carrier=row.carrier))


def on_order_completed(tx: Transaction, event: OrderCompleted) -> None:
    """Dispatch the shipment, since the order is past its pivot."""
    row = _shipment(tx, event)
    if domain.complete(Status(row.status)):
        tx.move(shipments, event.order_id, row.status, status=Status.DISPATCHED)
        _book(tx, row, "dispatch", row.carrier)


HANDLERS: dict[type[Event], Handler] = {
    PaymentCompleted: on_payment_completed,
    OrderCompleted: on_order_completed,
    **dict.fromkeys(error_events_for("shipping"), on_error),
}


def _shipment(tx: Transaction, event: Event) -> Row[Any]:
    values = {
        "shipment_id": uuid7(),
        "order_id": event.order_id,
        "destination": event.destination,
        "status": Status.NEW,
    }
    return tx.insert_or_lock(shipments, values)


_ADD_BOOKING = carrier_bookings.insert()

_FIND_CARRIER = select(destinations.c.carrier).where(destinations.c.destination == bindparam("destination"))


def _find_carrier(tx: Transaction, destination: str) -> str | None:
    return tx.execute(_FIND_CARRIER, {"destination": destination}).scalar_one_or_none()


def _book(tx: Transaction, shipment: Row[Any], effect: str, carrier: str) -> None:
    tx.execute(
        _ADD_BOOKING,
        {
            "order_id": shipment.order_id,
            "effect": effect,
            "shipment_id": shipment.shipment_id,
            "carrier": carrier,
            "event_id": tx.cause,
        },
    )
