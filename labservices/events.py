"""The events that the services publish and consume.

An event is a fact about one order, named in the past tense. Each event carries the whole order (customer, destination,
items, prices), so that a consumer can execute the next step without querying another service. The name of the class is
the event's type.

Consumers are tolerant readers. They ignore unknown fields, so a minor version may add fields. A major version may
change the meaning of a field, so consumers reject an unknown major version.
"""

from typing import Annotated, Any, ClassVar, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Sku = Annotated[str, Field(min_length=1, max_length=64, examples=["MUG-BLUE"])]
Cents = Annotated[int, Field(ge=0, description="amount of money in minor units", examples=[1250])]
Reason = Annotated[str, Field(min_length=1, max_length=64, examples=["insufficient_stock"])]

# The reasons that the four services report.
INSUFFICIENT_STOCK = "insufficient_stock"
UNKNOWN_CUSTOMER = "unknown_customer"
INSUFFICIENT_FUNDS = "insufficient_funds"
NO_CARRIER = "no_carrier"
CANCELLED_BY_CUSTOMER = "cancelled_by_customer"
DEADLINE_EXCEEDED = "deadline_exceeded"
ORDER_CANCELLED = "order_cancelled"


class Line(BaseModel):
    """One line of an order: a product, its quantity, and its price at the time of the order."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    sku: Sku
    quantity: Annotated[int, Field(ge=1)]
    unit_price_cents: Cents


class Event(BaseModel):
    """The base class of all events: the data of the order."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    topic: ClassVar[str] = ""
    version: ClassVar[str] = "1.0"

    order_id: UUID
    customer_id: Annotated[str, Field(min_length=1, max_length=64)]
    destination: Annotated[str, Field(min_length=1, max_length=64)]
    items: Annotated[list[Line], Field(min_length=1)]
    total_cents: Cents
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["EUR"])]

    @classmethod
    def about(cls, order: "Event", **more: Any) -> Self:
        """Create an event about the order of another event."""
        return cls(**{name: getattr(order, name) for name in Event.model_fields}, **more)

    @classmethod
    def type(cls) -> str:
        """Return the event type, the value of the ``ce_type`` header."""
        return cls.__name__

    @classmethod
    def dataschema(cls) -> str:
        """Return the name and version of the payload's schema, the value of the ``ce_dataschema`` header."""
        return f"urn:sagalab:{cls.__name__}:{cls.version}"


class ErrorEvent(Event):
    """A failure or a cancellation.

    The inventory, payment and shipping services, except the publisher, undo their work for the order.
    """

    reason: Reason


# --- order.events


class OrderCreated(Event):
    """An order was accepted. The inventory service reserves its goods next."""

    topic = "order.events"


class OrderCompleted(Event):
    """All steps succeeded. From now on, the order can't be undone."""

    topic = "order.events"


class OrderCancelRequested(ErrorEvent):
    """The customer cancelled the order before it was completed."""

    topic = "order.events"


class OrderTimedOut(ErrorEvent):
    """The order was not completed before its deadline."""

    topic = "order.events"


class OrderCancelled(Event):
    """The order is cancelled, and all work for it has been undone."""

    topic = "order.events"

    reason: Reason


# --- inventory.events


class Shortage(BaseModel):
    """A product whose stock was too low for the order."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    sku: Sku
    requested: Annotated[int, Field(ge=1)]
    available: Annotated[int, Field(ge=0)]


class InventoryReserved(Event):
    """The goods are reserved. The payment service captures the money next."""

    topic = "inventory.events"

    reservation_id: UUID


class InventoryReservationFailed(ErrorEvent):
    """The goods could not be reserved."""

    topic = "inventory.events"

    reservation_id: UUID
    shortages: list[Shortage] = []


class InventoryReleased(Event):
    """The reserved goods are available again."""

    topic = "inventory.events"

    reservation_id: UUID


# --- payment.events


class PaymentCompleted(Event):
    """The money was captured. The shipping service schedules the shipment next."""

    topic = "payment.events"

    payment_id: UUID
    amount_cents: Cents


class PaymentFailed(ErrorEvent):
    """The money could not be captured."""

    topic = "payment.events"

    payment_id: UUID


class PaymentRefunded(Event):
    """The captured money was refunded."""

    topic = "payment.events"

    payment_id: UUID
    amount_cents: Cents


# --- shipping.events


class ShipmentScheduled(Event):
    """The shipment is scheduled with a carrier. This was the last step of the saga."""

    topic = "shipping.events"

    shipment_id: UUID
    carrier: Annotated[str, Field(min_length=1)]


class ShippingFailed(ErrorEvent):
    """The shipment could not be scheduled."""

    topic = "shipping.events"

    shipment_id: UUID


class ShipmentCancelled(Event):
    """The scheduled shipment was cancelled."""

    topic = "shipping.events"

    shipment_id: UUID
    carrier: Annotated[str, Field(min_length=1)]


EVENTS: dict[str, type[Event]] = {
    event.type(): event
    for event in (
        OrderCreated,
        OrderCompleted,
        OrderCancelRequested,
        OrderTimedOut,
        OrderCancelled,
        InventoryReserved,
        InventoryReservationFailed,
        InventoryReleased,
        PaymentCompleted,
        PaymentFailed,
        PaymentRefunded,
        ShipmentScheduled,
        ShippingFailed,
        ShipmentCancelled,
    )
}
"""All event classes by their type."""


def error_events_for(service: str) -> list[type[ErrorEvent]]:
    """Return the error events of the other services, on which the service must undo its own work."""
    return [event for event in EVENTS.values() if issubclass(event, ErrorEvent) and event.topic != f"{service}.events"]
