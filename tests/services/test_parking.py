"""Parked records: retried, dead-lettered and replayed; later records of the order wait, all others are handled."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from labservices.messaging import parking
from labservices.messaging.dead_letters import BrokerAway
from labservices.messaging.events import Event, InventoryReserved, OrderCancelRequested, OrderCreated
from labservices.messaging.handling import Outcome
from labservices.messaging.parking import MAX_ATTEMPTS, Failure, Parked
from labservices.messaging.record import InvalidRecord
from tests.services.test_handlers import of
from tests.services.world import Party, World, a_new_order, changed, record_of


class Topic:
    """Replaces the dead-letter topic."""

    def __init__(self) -> None:
        self.is_there = True
        self.letters: list[Parked] = []

    def send(self, parked: Parked) -> None:
        if not self.is_there:
            raise BrokerAway("no answer")
        self.letters.append(parked)


@contextmanager
def poisoned(party: Party, order_id: UUID) -> Iterator[None]:
    """Make every handler of a service fail for one order."""
    call = party.runtime.handling._call

    def fail(handler: Any, tx: Any, envelope: Any) -> None:
        call(handler, tx, envelope)  # the handler's changes are rolled back
        if envelope.event.order_id == order_id:
            raise RuntimeError("poison")

    party.runtime.handling._call = fail
    try:
        yield
    finally:
        party.runtime.handling._call = call


@pytest.fixture
def topic(world: World, monkeypatch: pytest.MonkeyPatch) -> Topic:
    """Collect the dead letters of inventory, and make retries due at once."""
    topic = Topic()
    monkeypatch.setattr(world.inventory.runtime.handling, "_dead_letters", topic)
    monkeypatch.setattr(parking, "RETRY_FIRST", 0.0)
    return topic


def states(party: Party) -> list[tuple[str, int]]:
    return [(row.state, row.attempts) for row in party.rows("parked_records")]


def try_all(party: Party) -> list[Outcome]:
    outcomes = []
    while outcome := party.runtime.handling.try_parked():
        outcomes.append(outcome)
    return outcomes


def test_a_failing_record_is_tried_a_few_times_and_then_given_up(world: World, topic: Topic) -> None:
    """After the last attempt a record is dead-lettered once, with its error, and none of its effects remains."""
    order = a_new_order()
    with poisoned(world.inventory, order.order_id):
        assert world.inventory.take(order) is Outcome.FAILED
        assert try_all(world.inventory) == [Outcome.FAILED] * (MAX_ATTEMPTS - 1) + [Outcome.DEAD]
    assert states(world.inventory) == [("dead", MAX_ATTEMPTS)]
    (letter,) = topic.letters
    assert letter.record.key == str(order.order_id)
    assert letter.record.headers["ce_type"] == "OrderCreated"
    assert "RuntimeError: poison" in (letter.error or "")
    assert world.inventory.rows("inbox") == world.inventory.rows("reservations") == []
    assert world.stock() == (100, 0, 0)


def test_a_failure_that_passes_leaves_no_trace(world: World, topic: Topic) -> None:
    """A record that succeeds on a retry is handled once and is no longer parked."""
    order = a_new_order()
    with poisoned(world.inventory, order.order_id):
        world.inventory.take(order)
    assert try_all(world.inventory) == [Outcome.HANDLED]
    assert states(world.inventory) == []
    assert world.stock() == (100, 2, 0)
    assert world.inventory.said(order.order_id) == ["InventoryReserved"]


def test_what_comes_later_for_the_order_waits_behind_and_others_flow(world: World, topic: Topic) -> None:
    """While an order's event is dead, its later events are parked in order, and other orders are handled at once."""
    order, other = a_new_order(), a_new_order()
    with poisoned(world.inventory, order.order_id):
        world.inventory.take(order)
        try_all(world.inventory)
        cancel = of(order, OrderCancelRequested)
        assert world.inventory.take(cancel) is Outcome.BEHIND
        assert world.inventory.take(other) is Outcome.HANDLED
        assert try_all(world.inventory) == []
    assert [state for state, _ in states(world.inventory)] == ["dead", "behind"]

    dead = world.inventory.rows("parked_records")[0].parking_id
    answer = world.inventory.http.post(f"/manage/dead-letters/{dead}/replay")
    assert answer.status_code == 202
    assert try_all(world.inventory) == [Outcome.HANDLED, Outcome.HANDLED]
    assert states(world.inventory) == []
    assert world.inventory.said(order.order_id) == ["InventoryReserved", "InventoryReleased"]
    assert world.stock() == (100, 2, 0)  # of the other order


def test_a_replay_before_the_cause_is_gone_ends_as_a_dead_letter_again(world: World, topic: Topic) -> None:
    """A replayed record has all its attempts again, and is dead-lettered a second time."""
    order = a_new_order()
    with poisoned(world.inventory, order.order_id):
        world.inventory.take(order)
        try_all(world.inventory)
        dead = world.inventory.rows("parked_records")[0].parking_id
        world.inventory.http.post(f"/manage/dead-letters/{dead}/replay")
        assert try_all(world.inventory) == [Outcome.FAILED] * MAX_ATTEMPTS + [Outcome.DEAD]
    assert states(world.inventory) == [("dead", MAX_ATTEMPTS)]
    assert len(topic.letters) == 2


def test_a_discarded_dead_letter_lets_the_others_follow(world: World, topic: Topic) -> None:
    """The records behind a discarded dead letter are handled as if it had never arrived."""
    order = a_new_order()
    with poisoned(world.inventory, order.order_id):
        world.inventory.take(order)
        try_all(world.inventory)
    world.inventory.take(of(order, OrderCancelRequested))
    dead = world.inventory.rows("parked_records")[0].parking_id
    assert world.inventory.http.post(f"/manage/dead-letters/{dead}/discard").status_code == 200
    assert try_all(world.inventory) == [Outcome.HANDLED]
    assert [row.status for row in world.inventory.rows("reservations")] == ["TOMBSTONE"]


def test_only_a_dead_letter_can_be_sent_back_or_dropped(world: World, topic: Topic) -> None:
    """Replay and discard return 404 for a record that is still retried, and for one that does not exist."""
    order = a_new_order()
    with poisoned(world.inventory, order.order_id):
        world.inventory.take(order)
    parked = world.inventory.rows("parked_records")[0].parking_id
    for number in (parked, parked + 1):
        for verb in ("replay", "discard"):
            assert world.inventory.http.post(f"/manage/dead-letters/{number}/{verb}").status_code == 404
    assert len(world.inventory.http.get("/manage/parked-records").json()["items"]) == 1


def test_without_the_broker_a_dead_letter_waits_and_no_attempt_is_counted(world: World, topic: Topic) -> None:
    """A record becomes a dead letter only when it is in the dead-letter topic."""
    bad = changed(record_of(a_new_order()), value=b"{")
    topic.is_there = False
    assert world.inventory.runtime.handling.handle(bad) is Outcome.FAILED
    assert world.inventory.runtime.handling.try_parked() is Outcome.BEHIND
    assert states(world.inventory) == [("given_up", 1)]
    topic.is_there = True
    with world.inventory.runtime.database.engine.begin() as connection:
        connection.execute(text("UPDATE parked_records SET due_at = now()"))
    assert try_all(world.inventory) == [Outcome.DEAD]
    assert len(topic.letters) == 1


def test_a_record_that_is_read_again_is_not_parked_again(world: World, topic: Topic) -> None:
    """A record of the same topic, partition and offset is parked once, whatever its state."""
    bad = changed(record_of(a_new_order()), value=b"{")
    for _ in range(2):
        world.inventory.runtime.handling.handle(bad)
    assert try_all(world.inventory) == [Outcome.DEAD]
    world.inventory.runtime.handling.handle(bad)
    assert try_all(world.inventory) == []
    assert len(topic.letters) == 1


def test_a_record_without_a_key_holds_nobody_up(world: World, topic: Topic) -> None:
    """A record without a key belongs to no order, so it blocks none."""
    order = a_new_order()
    world.inventory.runtime.handling.handle(changed(record_of(order), key=None))
    assert try_all(world.inventory) == [Outcome.DEAD]
    assert world.inventory.take(order) is Outcome.HANDLED


def test_a_duplicate_of_what_was_handled_is_not_parked(world: World, topic: Topic) -> None:
    """Events that were handled before the order's dead letter are still recognized as duplicates."""
    order = a_new_order()
    first = record_of(order)
    world.inventory.runtime.handling.handle(first)
    with poisoned(world.inventory, order.order_id):
        world.inventory.take(of(order, OrderCancelRequested))
        again = changed(first, offset=first.offset + 10_000)
        assert world.inventory.runtime.handling.handle(again) is Outcome.DUPLICATE


@pytest.mark.parametrize("oddity", ["a NUL in the key", "a NUL in a header", "a megabyte"])
def test_odd_records_are_parked_like_others(world: World, topic: Topic, oddity: str) -> None:
    """Neither text that PostgreSQL can't store nor a very long value stops the consumer."""
    good = record_of(a_new_order())
    odd = {
        "a NUL in the key": lambda: changed(good, key="a\0b"),
        "a NUL in a header": lambda: changed(good, headers={**good.headers, "ce_id": "\0"}),
        "a megabyte": lambda: changed(good, value=b"x" * 1_000_000),
    }[oddity]()
    assert world.inventory.runtime.handling.handle(odd) is Outcome.FAILED
    assert try_all(world.inventory) == [Outcome.DEAD]


def test_two_processes_share_the_parked_records(world: World, topic: Topic) -> None:
    """A record that one process is retrying is skipped by the other."""
    order: Event = a_new_order()
    with poisoned(world.inventory, order.order_id):
        world.inventory.take(order)
    with world.inventory.runtime.database.transaction() as tx:
        assert parking.next_due(tx.connection) is not None
        assert world.inventory.runtime.handling.try_parked() is None
    assert try_all(world.inventory) == [Outcome.HANDLED]


def test_the_wait_grows_and_has_chance_in_it() -> None:
    """Each delay is about twice the one before, up to a limit, with random jitter."""
    error = RuntimeError("again")
    waits = [[Failure.of(error, n).wait_seconds for _ in range(200)] for n in range(1, MAX_ATTEMPTS)]
    for n, sample in enumerate(waits):
        middle = parking.RETRY_FIRST * 2**n
        assert 0.5 * middle <= min(sample) < max(sample) <= 1.5 * middle
    assert Failure.of(error, MAX_ATTEMPTS).state == "given_up"
    assert Failure.of(InvalidRecord("bad"), 1).state == "given_up"


def test_a_missing_predecessor_is_parked_until_it_is_there(world: World, topic: Topic) -> None:
    """An answer to an order that does not exist yet is retried, because the order may still arrive."""
    order_id = world.place()
    created = OrderCreated.model_validate_json(json.dumps(world.order.rows("outbox")[0].payload))
    reserved = of(created, InventoryReserved)
    with world.order.runtime.database.engine.begin() as connection:
        kept = connection.execute(text("DELETE FROM orders RETURNING *")).one()
    assert world.order.take(reserved) is Outcome.FAILED
    orders = world.order.service.tables.tables["orders"]
    with world.order.runtime.database.engine.begin() as connection:
        connection.execute(orders.insert(), dict(kept._mapping))
        connection.execute(text("UPDATE parked_records SET due_at = now()"))
    assert try_all(world.order) == [Outcome.HANDLED]
    assert world.history(order_id)[-1] == "RESERVED"
