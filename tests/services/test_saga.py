"""The saga as a whole: the four services together, with the test as relay and broker."""

import random
from typing import Any
from uuid import UUID

import pytest

from tests.services.world import World


def assert_everything_is_undone(world: World) -> None:
    assert world.balance("ada") == 1_000_000
    assert world.stock("mug") == (100, 0, 0)
    assert world.stock("pot") == (10, 0, 0)
    assert {row.status for row in world.shipping.rows("shipments")} <= {"CANCELLED", "FAILED", "TOMBSTONE"}


def test_order_accepted_by_every_service_is_completed(world: World) -> None:
    """The goods are shipped, the money is captured, the shipment is dispatched, and the history has every step."""
    order_id = world.place(mug=2, pot=1)
    world.settle()
    assert world.history(order_id) == ["PENDING", "RESERVED", "PAID", "COMPLETED"]
    assert world.stock("mug") == (98, 0, 2)
    assert world.stock("pot") == (9, 0, 1)
    assert world.balance() == 1_000_000 - 2 * 1250 - 4000
    assert [row.status for row in world.shipping.rows("shipments")] == ["DISPATCHED"]
    assert world.order.published() == ["OrderCreated", "OrderCompleted"]


@pytest.mark.parametrize(
    ("order", "reason", "inventory", "payment", "shipping"),
    [
        ({"gone": 1}, "insufficient_stock", ["InventoryReservationFailed"], [], []),
        (
            {"customer_id": "pip"},
            "insufficient_funds",
            ["InventoryReserved", "InventoryReleased"],
            ["PaymentFailed"],
            [],
        ),
        (
            {"customer_id": "nobody"},
            "unknown_customer",
            ["InventoryReserved", "InventoryReleased"],
            ["PaymentFailed"],
            [],
        ),
        (
            {"destination": "utopia"},
            "no_carrier",
            ["InventoryReserved", "InventoryReleased"],
            ["PaymentCompleted", "PaymentRefunded"],
            ["ShippingFailed"],
        ),
    ],
)
def test_order_rejected_by_one_service_is_cancelled(
    world: World, order: dict, reason: str, inventory: list, payment: list, shipping: list
) -> None:
    """Each service that succeeded undoes its step once, and the order names the reason of the failure."""
    order_id = world.place(**order)
    world.settle()
    found = world.order.http.get(f"/orders/{order_id}").json()
    assert (found["status"], found["failure_reason"]) == ("CANCELLED", reason)
    assert world.history(order_id)[-2:] == ["CANCELLING", "CANCELLED"]
    assert world.inventory.published() == inventory
    assert world.payment.published() == payment
    assert world.shipping.published() == shipping
    assert world.order.published() == ["OrderCreated", "OrderCancelled"]
    assert_everything_is_undone(world)


@pytest.mark.parametrize("after", range(13))
def test_cancel_before_the_pivot_undoes_everything(world: World, after: int) -> None:
    """After any number of handled events, the order ends CANCELLED with nothing left, unless it was COMPLETED."""
    order_id = world.place()
    steps = world.relay()
    for _ in range(after):
        next(steps, None)
    steps.close()
    before = world.status(order_id)
    answer = world.order.http.post(f"/orders/{order_id}/cancel")
    world.settle()
    if before == "COMPLETED":
        assert answer.status_code == 409
        assert world.status(order_id) == "COMPLETED"
    else:
        assert answer.status_code == 202
        assert world.status(order_id) == "CANCELLED"
        assert_everything_is_undone(world)


ORDERS: list[dict[str, Any]] = [
    {},
    {"customer_id": "pip"},
    {"destination": "utopia"},
    {"gone": 1},
    {"mug": 1, "pot": 3},
]


@pytest.mark.parametrize("seed", range(25))
def test_any_interleaving_of_topics_ends_consistently(world: World, seed: int) -> None:
    """In any order of topics and cancellations, each order ends and the data are consistent."""
    rng = random.Random(seed)
    orders = [world.place(**rng.choice(ORDERS)) for _ in range(4)]
    to_cancel = rng.sample(orders, 2)
    steps = world.relay(rng)
    for _ in steps:
        if to_cancel and rng.random() < 0.1:
            world.order.http.post(f"/orders/{to_cancel.pop()}/cancel")
    assert_consistent(world, orders)


def assert_consistent(world: World, orders: list[UUID]) -> None:
    paid = 0
    for order_id in orders:
        found = world.order.http.get(f"/orders/{order_id}").json()
        history = world.history(order_id)
        assert found["version"] == len(history)
        entries = {row.effect: row.amount_cents for row in world.payment.rows("ledger_entries", order_id=order_id)}
        if found["status"] == "COMPLETED":
            assert history == ["PENDING", "RESERVED", "PAID", "COMPLETED"]
            assert entries == {"capture": found["total_cents"]}
            paid += found["total_cents"]
        else:
            assert history[-2:] == ["CANCELLING", "CANCELLED"]
            assert entries in ({}, {"capture": found["total_cents"], "refund": found["total_cents"]})
    assert world.balance("ada") == 1_000_000 - paid
    for product in world.inventory.rows("products"):
        assert product.reserved == 0
    assert {row.status for row in world.inventory.rows("reservations")} <= {
        "SHIPPED",
        "RELEASED",
        "FAILED",
        "TOMBSTONE",
    }
    assert {row.status for row in world.shipping.rows("shipments")} <= {
        "DISPATCHED",
        "CANCELLED",
        "FAILED",
        "TOMBSTONE",
    }
