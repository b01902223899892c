"""The deadline: a late order is cancelled through the outbox, and undone like any cancellation."""

from uuid import UUID

import pytest
from sqlalchemy import text

from labservices.order.deadline import BATCH_SIZE, time_out_late_orders
from tests.services.test_saga import assert_everything_is_undone
from tests.services.world import World


def backdate_orders(world: World, seconds: float) -> None:
    with world.order.runtime.database.engine.begin() as connection:
        statement = text("UPDATE orders SET created_at = created_at - make_interval(secs => :s)")
        connection.execute(statement, {"s": seconds})


def check_deadlines(world: World) -> int:
    return time_out_late_orders(world.order.runtime.database, world.order.runtime.settings)


@pytest.mark.parametrize("after", range(9))
def test_late_order_is_cancelled_at_every_step(world: World, after: int) -> None:
    """A late order ends CANCELLED at every step, with all effects undone and its reason, unless it was COMPLETED."""
    order_id = world.place()
    steps = world.relay()
    for _ in range(after):
        next(steps, None)
    steps.close()
    was_completed = world.status(order_id) == "COMPLETED"
    backdate_orders(world, 31)
    assert check_deadlines(world) == (0 if was_completed else 1)
    world.settle()
    if was_completed:
        assert world.status(order_id) == "COMPLETED"
    else:
        assert world.history(order_id)[-2:] == ["CANCELLING", "CANCELLED"]
        assert world.order.rows("orders")[0].failure_reason == "deadline_exceeded"
        assert world.order.published(order_id) == ["OrderCreated", "OrderTimedOut", "OrderCancelled"]
        assert_everything_is_undone(world)


def test_order_within_the_deadline_is_not_timed_out(world: World) -> None:
    """An order younger than the deadline is not timed out."""
    world.place()
    backdate_orders(world, 29)
    assert check_deadlines(world) == 0
    assert world.order.published() == ["OrderCreated"]


def test_each_late_order_is_timed_out_once(world: World) -> None:
    """A second check finds no order again, and many late orders are processed in batches."""
    orders: set[UUID] = {world.place(mug=1) for _ in range(BATCH_SIZE + 3)}
    backdate_orders(world, 31)
    assert [check_deadlines(world) for _ in range(3)] == [BATCH_SIZE, 3, 0]
    assert {row.aggregateid for row in world.order.rows("outbox", type="OrderTimedOut")} == orders


def test_locked_order_is_skipped(world: World) -> None:
    """A locked order is skipped; the next check may time it out."""
    order_id = world.place()
    backdate_orders(world, 31)
    with world.order.runtime.database.transaction() as tx:
        tx.execute(text("SELECT 1 FROM orders FOR UPDATE"))
        assert check_deadlines(world) == 0
    assert check_deadlines(world) == 1
    assert world.status(order_id) == "CANCELLING"
