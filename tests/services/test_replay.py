"""Replays: Kafka delivers handled events again, many at once."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from labservices.messaging import replay
from labservices.messaging.handling import Outcome
from labservices.record import Record
from tests.services.world import ServiceHarness, World, make_order_created, record_of


@contextmanager
def transactions(harness: ServiceHarness) -> Iterator[list[None]]:
    """Yield a list that gets an item for each transaction of a service."""
    begun: list[None] = []

    def note(connection: object) -> None:
        begun.append(None)

    engine = harness.runtime.database.engine
    event.listen(engine, "begin", note)
    yield begun
    event.remove(engine, "begin", note)


def handle(harness: ServiceHarness, records: list[Record]) -> list[Outcome]:
    return [harness.runtime.handling.handle(record) for record in records]


@pytest.fixture
def handled(world: World) -> list[Record]:
    """Records of sixty orders that the inventory service has handled."""
    records = [record_of(make_order_created(customer_id=f"c{number}")) for number in range(60)]
    assert set(handle(world.inventory, records)) == {Outcome.HANDLED}
    return records


def test_a_replay_needs_few_transactions(world: World, handled: list[Record]) -> None:
    """After ten duplicates in a row, the next ones need no transaction, and a new event among them is handled."""
    new = record_of(make_order_created(customer_id="new"))
    with transactions(world.inventory) as begun:
        outcomes = handle(world.inventory, [*handled[:40], new, *handled[40:]])
    assert outcomes == [*[Outcome.DUPLICATE] * 40, Outcome.HANDLED, *[Outcome.DUPLICATE] * 20]
    assert len(begun) == replay.STARTS_AFTER + 1
    assert len(world.inventory.rows("inbox")) == len(world.inventory.rows("reservations")) == 61


def test_a_second_replay_is_checked_again(world: World, handled: list[Record]) -> None:
    """The inbox is asked again in each replay, so an event whose row was deleted in between is handled."""
    handle(world.inventory, handled)
    with world.inventory.runtime.database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM inbox")
    assert Outcome.DUPLICATE not in handle(world.inventory, handled)


def test_an_old_answer_of_the_inbox_is_not_used(
    world: World, handled: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that the inbox returned long ago are not used: the event's own transaction decides."""
    monkeypatch.setattr(replay, "VALID_SECONDS", -1.0)
    with transactions(world.inventory) as begun:
        assert set(handle(world.inventory, handled)) == {Outcome.DUPLICATE}
    assert len(begun) == len(handled)
