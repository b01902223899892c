"""Concurrency inside one service: of two transactions on the same row, the second waits and sees the first's result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from labservices.events import (
    Event,
    InventoryReserved,
    Line,
    OrderCancelRequested,
    OrderCreated,
    PaymentCompleted,
    ShipmentScheduled,
)
from labservices.messaging.handling import Outcome
from labservices.order import commands
from labservices.storage.database import Transaction
from labstack.waiting import wait_until
from tests.services.test_handlers import make_event
from tests.services.world import ServiceHarness, World, make_order_created

IS_BLOCKED = text(
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
)


class Second:
    """A call in another thread that overlaps a transaction of this one."""

    def __init__(self, harness: ServiceHarness, call: Callable[[], Any]) -> None:
        self._engine = harness.runtime.database.engine
        self._pool = ThreadPoolExecutor(1)
        self._call = call
        self._running: Future[Any] | None = None

    def start(self) -> None:
        """Start the call, if it has not started, and wait until it ends or waits for a lock."""
        if self._running is None:
            running = self._running = self._pool.submit(self._call)
            wait_until(lambda: running.done() or self._is_blocked(), 10, interval=0.01)

    def result(self) -> Any:
        """Return the result of the call."""
        assert self._running
        return self._running.result(20)

    def close(self) -> None:
        """Wait for the end of the call."""
        self._pool.shutdown()

    def _is_blocked(self) -> bool:
        with self._engine.connect() as connection:
            return bool(connection.execute(IS_BLOCKED).scalar_one())


@contextmanager
def overlapping(harness: ServiceHarness, call: Callable[[], Any]) -> Iterator[tuple[Transaction, Second]]:
    """Run a block in a transaction, and start a call before its commit."""
    second = Second(harness, call)
    with closing(second), harness.runtime.database.transaction(cause=uuid4()) as tx:
        yield tx, second
        second.start()


def handle(harness: ServiceHarness, tx: Transaction, event: Event) -> None:
    harness.service.handlers[type(event)](tx, event)


def test_two_orders_of_one_customer_share_the_balance(world: World) -> None:
    """The second payment of a customer waits for the first, and is refused if too little money is left."""
    orders = [make_order_created(customer_id="pip", total_cents=600) for _ in range(2)]
    first, second = (make_event(order, InventoryReserved) for order in orders)
    with overlapping(world.payment, lambda: world.payment.handle(second)) as (tx, outcome):
        handle(world.payment, tx, first)
    assert outcome.result() is Outcome.HANDLED
    assert world.payment.published(first.order_id) == ["PaymentCompleted"]
    assert world.payment.published(second.order_id) == ["PaymentFailed"]
    assert world.balance("pip") == 400


def test_two_orders_share_the_stock(world: World) -> None:
    """The second reservation of a product waits for the first, and is refused if too little is left."""
    items = [Line(sku="mug", quantity=1, unit_price_cents=1), Line(sku="rare", quantity=1, unit_price_cents=1)]
    first, second = make_order_created(items=items), make_order_created(items=items[::-1])
    with overlapping(world.inventory, lambda: world.inventory.handle(second)) as (tx, outcome):
        handle(world.inventory, tx, first)
    assert outcome.result() is Outcome.HANDLED
    assert world.inventory.published(first.order_id) == ["InventoryReserved"]
    assert world.inventory.published(second.order_id) == ["InventoryReservationFailed"]
    assert world.stock("rare") == (1, 1, 0)


@pytest.mark.parametrize(
    ("name", "command", "failure"),
    [
        ("inventory", OrderCreated, "InventoryReservationFailed"),
        ("payment", InventoryReserved, "PaymentFailed"),
        ("shipping", PaymentCompleted, "ShippingFailed"),
    ],
)
def test_command_waits_for_the_cancel_of_its_order(world: World, name: str, command: type[Event], failure: str) -> None:
    """A command that arrives while the cancel of its order is being handled sees the tombstone."""
    harness, order = world.harnesses[name], make_order_created()
    with overlapping(harness, lambda: harness.handle(make_event(order, command))) as (tx, outcome):
        handle(harness, tx, make_event(order, OrderCancelRequested))
    assert outcome.result() is Outcome.HANDLED
    assert harness.published() == [failure]


@pytest.fixture
def paid(world: World) -> OrderCreated:
    """Return the first event of an order that is PAID."""
    order = make_order_created(order_id=world.place())
    for kind in (InventoryReserved, PaymentCompleted):
        world.order.handle(make_event(order, kind))
    return order


def test_cancel_waits_for_the_pivot(world: World, paid: OrderCreated) -> None:
    """A cancel that arrives while the order completes is refused."""
    url = f"/orders/{paid.order_id}/cancel"
    with overlapping(world.order, lambda: world.order.http.post(url)) as (tx, answer):
        handle(world.order, tx, make_event(paid, ShipmentScheduled))
    assert answer.result().status_code == 409
    assert world.status(paid.order_id) == "COMPLETED"


def test_pivot_waits_for_the_cancel(world: World, paid: OrderCreated) -> None:
    """A last success that arrives while the order is being cancelled does not complete it."""
    late = make_event(paid, ShipmentScheduled)
    with overlapping(world.order, lambda: world.order.handle(late)) as (tx, outcome):
        commands.cancel(tx, paid.order_id)
    assert outcome.result() is Outcome.HANDLED
    assert world.history(paid.order_id) == ["PENDING", "RESERVED", "PAID", "CANCELLING"]


def test_second_request_with_a_key_waits_for_the_first(world: World) -> None:
    """Of two requests with the same key at once, the second returns the order of the first."""
    body = {"customer_id": "ada", "destination": "berlin", "items": [{"sku": "mug", "quantity": 1}]}

    def post() -> httpx.Response:
        return world.order.http.post("/orders", json=body, headers={"Idempotency-Key": "once"})

    with overlapping(world.order, post) as (tx, answer):
        order, _ = commands.place(tx, body, "once")
    assert (answer.result().status_code, answer.result().json()["order_id"]) == (200, str(order.order_id))
    assert len(world.order.rows("orders")) == 1
