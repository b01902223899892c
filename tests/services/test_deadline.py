"""The deadline: a late order is cancelled through the outbox, and undone like any cancellation."""

from uuid import UUID

import pytest
from sqlalchemy import text

from labservices.order.deadline import AT_ONCE, call_off_late_orders
from tests.services.test_saga import assert_nothing_is_left
from tests.services.world import World


def make_older(world: World, seconds: float) -> None:
    with world.order.runtime.database.engine.begin() as connection:
        statement = text("UPDATE orders SET created_at = created_at - make_interval(secs => :s)")
        connection.execute(statement, {"s": seconds})


def look(world: World) -> int:
    return call_off_late_orders(world.order.runtime.database, world.order.runtime.settings)


@pytest.mark.parametrize("after", range(9))
def test_a_late_order_is_undone_wherever_it_stands(world: World, after: int) -> None:
    """A late order ends CANCELLED at every step, with all effects undone and its reason, unless it was COMPLETED."""
    order_id = world.place()
    steps = world.relay()
    for _ in range(after):
        next(steps, None)
    steps.close()
    was_completed = world.status(order_id) == "COMPLETED"
    make_older(world, 31)
    assert look(world) == (0 if was_completed else 1)
    world.settle()
    if was_completed:
        assert world.status(order_id) == "COMPLETED"
    else:
        assert world.history(order_id)[-2:] == ["CANCELLING", "CANCELLED"]
        assert world.order.rows("orders")[0].failure_reason == "deadline_exceeded"
        assert world.order.said(order_id) == ["OrderCreated", "OrderTimedOut", "OrderCancelled"]
        assert_nothing_is_left(world)


def test_in_time_nothing_is_called_off(world: World) -> None:
    """An order younger than the deadline is not timed out."""
    world.place()
    make_older(world, 29)
    assert look(world) == 0
    assert world.order.said() == ["OrderCreated"]


def test_each_late_order_is_called_off_once(world: World) -> None:
    """A second check finds no order again, and many late orders are processed in batches."""
    orders: set[UUID] = {world.place(mug=1) for _ in range(AT_ONCE + 3)}
    make_older(world, 31)
    assert [look(world) for _ in range(3)] == [AT_ONCE, 3, 0]
    assert {row.aggregateid for row in world.order.rows("outbox", type="OrderTimedOut")} == orders


def test_an_order_that_is_being_handled_is_left_alone(world: World) -> None:
    """A locked order is skipped; the next check may time it out."""
    order_id = world.place()
    make_older(world, 31)
    with world.order.runtime.database.transaction() as tx:
        tx.execute(text("SELECT 1 FROM orders FOR UPDATE"))
        assert look(world) == 0
    assert look(world) == 1
    assert world.status(order_id) == "CANCELLING"
