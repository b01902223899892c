"""The pure domains: decisions without a database."""

from itertools import permutations
from typing import Any
from uuid import uuid4

import pytest

from labservices.events import EVENTS, Line, OrderCreated, Shortage, error_events_for
from labservices.ids import uuid7
from labservices.inventory import domain as inventory
from labservices.order import domain as order
from labservices.order.domain import STEPS, Answer, Status, cancel, effect_of, transitions
from labservices.payment import domain as payment
from labservices.shipping import domain as shipping
from labservices.storage.steps import ContradictingEvent


def known_answers(*types: str) -> dict[str, Answer]:
    return {name: Answer(name, uuid4(), "reason" if "Failed" in name else None) for name in types}


@pytest.mark.parametrize("arrived", list(permutations([step.success.type() for step in STEPS])))
def test_changes_do_not_depend_on_the_order_of_answers(arrived: tuple[str, ...]) -> None:
    """Re-evaluated after each arrival, the changes are the same three in the same order."""
    status, statuses = Status.PENDING, []
    for number in range(1, 4):
        for change in transitions(status, known_answers(*arrived[:number])):
            statuses.append(change.status)
            status = change.status
    assert statuses == [Status.RESERVED, Status.PAID, Status.COMPLETED]


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.CANCELLED])
def test_terminal_order_never_changes(status: Status) -> None:
    """A terminal order never changes, whatever answers are known."""
    assert transitions(status, known_answers(*EVENTS)) == []


def test_failure_takes_precedence_over_success() -> None:
    """If both a failure and a success are known, the order is cancelled and makes no progress."""
    changes = transitions(Status.PENDING, known_answers("InventoryReserved", "PaymentFailed"))
    assert [change.status for change in changes] == [Status.CANCELLING]
    assert changes[0].reason == "reason"


@pytest.mark.parametrize(
    ("answers", "is_over"),
    [
        ([], False),
        (["InventoryReserved"], False),
        (["InventoryReserved", "InventoryReleased"], False),  # payment has not answered yet
        (["InventoryReservationFailed"], True),
        (["PaymentFailed"], False),
        (["PaymentFailed", "InventoryReleased"], True),
        (["ShippingFailed", "InventoryReleased"], False),
        (["ShippingFailed", "InventoryReleased", "PaymentRefunded"], True),
        (["ShipmentScheduled", "InventoryReleased", "PaymentRefunded"], False),
        (["ShipmentScheduled", "InventoryReleased", "PaymentRefunded", "ShipmentCancelled"], True),
    ],
)
def test_order_is_cancelled_once_no_service_holds_stock_or_money(answers: list[str], is_over: bool) -> None:
    """An order becomes CANCELLED only when no service can still hold stock or money."""
    changes = transitions(Status.CANCELLING, known_answers(*answers))
    assert [change.status for change in changes] == ([Status.CANCELLED] if is_over else [])


def test_a_step_has_two_effects() -> None:
    """Success and failure are the same effect, the undo is another; an event of the order itself is not an effect."""
    effects = {(effect_of(step.success), effect_of(step.failure), effect_of(step.undo)) for step in STEPS}
    assert all(success == failure != undo for success, failure, undo in effects)
    assert len({effect for triple in effects for effect in triple}) == 6
    with pytest.raises(ValueError, match="OrderCreated"):
        effect_of(OrderCreated)


@pytest.mark.parametrize("status", Status)
def test_cancel_depends_on_the_status(status: Status) -> None:
    """A cancel fails after the pivot, has no effect once the order is cancelled, and is valid in other states."""
    if status is Status.COMPLETED:
        with pytest.raises(order.TooLate):
            cancel(status)
    else:
        assert cancel(status) == (status in (Status.PENDING, Status.RESERVED, Status.PAID))


def test_quantities_of_one_product_are_added() -> None:
    """Two lines of three make six."""
    line = Line(sku="mug", quantity=3, unit_price_cents=1)
    assert inventory.quantities([line, line]) == {"mug": 6}


def test_exactly_enough_stock_or_money_suffices() -> None:
    """Exactly enough stock or money suffices, and more does; one piece or one cent less does not."""
    assert inventory.reserve(inventory.Status.NEW, {"mug": 2}, {"mug": 2}) == inventory.Reserve()
    assert isinstance(inventory.reserve(inventory.Status.NEW, {"mug": 3}, {"mug": 2}), inventory.Refuse)
    assert inventory.reserve(inventory.Status.NEW, {"mug": 1}, {"mug": 2}) == inventory.Reserve()
    assert payment.pay(payment.Status.NEW, 100, 100) == payment.Capture()
    assert payment.pay(payment.Status.NEW, 101, 100) == payment.Capture()
    assert payment.pay(payment.Status.NEW, 99, 100) == payment.Refuse("insufficient_funds")


def test_each_step_is_decided_once() -> None:
    """In every status but NEW and TOMBSTONE the step is already answered."""
    for status in inventory.Status:
        assert (inventory.reserve(status, {}, {}) is None) == (status not in ("NEW", "TOMBSTONE"))
    for paid in payment.Status:
        assert (payment.pay(paid, 1, 1) is None) == (paid not in ("NEW", "TOMBSTONE"))
    for shipped in shipping.Status:
        assert (shipping.schedule(shipped, "c") is None) == (shipped not in ("NEW", "TOMBSTONE"))


def test_shortages_name_what_is_missing() -> None:
    """Each product of which too little is available is a shortage, by sku; an unknown product has none available."""
    wanted, available = {"pot": 3, "mug": 2, "cup": 1, "jug": 1}, {"pot": 2, "mug": 5, "jug": 1}
    refused = inventory.reserve(inventory.Status.NEW, wanted, available)
    shortages = (Shortage(sku="cup", requested=1, available=0), Shortage(sku="pot", requested=3, available=2))
    assert refused == inventory.Refuse("insufficient_stock", shortages)


def test_shipment_is_scheduled_with_the_carrier_of_the_destination() -> None:
    """A destination with a carrier gets a shipment; one without a carrier is refused."""
    assert shipping.schedule(shipping.Status.NEW, "heron-post") == shipping.Schedule("heron-post")
    assert shipping.schedule(shipping.Status.NEW, None) == shipping.Refuse("no_carrier")


def test_unknown_customer_is_refused() -> None:
    """A customer without an account is refused, even for an order of zero cents."""
    assert payment.pay(payment.Status.NEW, None, 0) == payment.Refuse("unknown_customer")


def test_step_of_a_cancelled_order_is_refused() -> None:
    """A step that is requested after the cancellation is refused, although everything suffices."""
    assert inventory.reserve(inventory.Status.TOMBSTONE, {}, {}) == inventory.Refuse("order_cancelled")
    assert payment.pay(payment.Status.TOMBSTONE, 1, 1) == payment.Refuse("order_cancelled")
    assert shipping.schedule(shipping.Status.TOMBSTONE, "heron-post") == shipping.Refuse("order_cancelled")


@pytest.mark.parametrize(
    ("undo", "expected"),
    [
        (inventory.undo, {"NEW": "TOMBSTONE", "RESERVED": "RELEASED", "FAILED": None, "RELEASED": None}),
        (payment.undo, {"NEW": "TOMBSTONE", "COMPLETED": "REFUNDED", "FAILED": None, "REFUNDED": None}),
        (shipping.undo, {"NEW": "TOMBSTONE", "SCHEDULED": "CANCELLED", "FAILED": None, "CANCELLED": None}),
    ],
)
def test_error_event_undoes_a_success_once(undo: Any, expected: dict[str, str | None]) -> None:
    """An error event undoes a success, leaves a tombstone where nothing was requested, and else changes nothing."""
    status = undo.__globals__["Status"]
    assert {name: undo(status(name)) for name in expected} == expected
    assert undo(status.TOMBSTONE) is None


@pytest.mark.parametrize(
    ("complete", "before", "after"),
    [(inventory.complete, "RESERVED", "SHIPPED"), (shipping.complete, "SCHEDULED", "DISPATCHED")],
)
def test_completion_dispatches_once_and_only_after_its_step(complete: Any, before: str, after: str) -> None:
    """OrderCompleted takes effect once after the step; in any other status it contradicts what the service did."""
    for status in complete.__globals__["Status"]:
        if status in (before, after):
            assert complete(status) is (status == before)
        else:
            with pytest.raises(ContradictingEvent, match=status):
                complete(status)


def test_shipped_goods_are_not_undone() -> None:
    """Shipped goods and a dispatched shipment are behind the pivot and are not undone."""
    with pytest.raises(ContradictingEvent):
        inventory.undo(inventory.Status.SHIPPED)
    with pytest.raises(ContradictingEvent):
        shipping.undo(shipping.Status.DISPATCHED)


def test_error_events_reach_every_service_except_the_publisher() -> None:
    """The order's two error events reach all three services; a service's own failure reaches the other two."""
    assert {event.type() for event in error_events_for("payment")} == {
        "OrderCancelRequested",
        "OrderTimedOut",
        "InventoryReservationFailed",
        "ShippingFailed",
    }


def test_ids_sort_by_creation_time() -> None:
    """Ids are UUIDs of version 7, and each is greater than the one before."""
    ids = [uuid7() for _ in range(5000)]
    assert ids == sorted(set(ids))
    assert {(one.version, one.variant) for one in ids} == {(7, "specified in RFC 4122")}
