"""Parked records: retried, dead-lettered and replayed; later records of the order wait, all others are handled."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from labservices.contract import MAX_RECORD_BYTES
from labservices.events import Event, InventoryReserved, OrderCancelRequested, OrderCreated
from labservices.messaging import parking
from labservices.messaging.dead_letters import BrokerUnavailable, DeadLetterPublisher, RecordRefused
from labservices.messaging.handling import Outcome
from labservices.messaging.parking import MAX_ATTEMPTS, Failure, Parked
from labservices.record import InvalidRecord
from tests.services.test_handlers import make_event
from tests.services.world import NO_BROKER, ServiceHarness, World, changed, make_order_created, record_of

LIMIT = 20 * MAX_ATTEMPTS
"""More outcomes than any test expects, so that a record that is retried without end fails a test instead of hanging."""


class FakeDeadLetterTopic:
    """Replaces the dead-letter topic."""

    def __init__(self) -> None:
        self.is_available = True
        self.largest = MAX_RECORD_BYTES
        self.letters: list[Parked] = []

    def send(self, parked: Parked) -> None:
        if not self.is_available:
            raise BrokerUnavailable("no answer")
        if parked.record.size > self.largest:
            raise RecordRefused("too large")
        self.letters.append(parked)


@contextmanager
def poisoned(harness: ServiceHarness, order_id: UUID) -> Iterator[None]:
    """Make every handler of a service fail for one order."""
    call = harness.runtime.handling._call

    def fail(handler: Any, tx: Any, envelope: Any) -> None:
        call(handler, tx, envelope)  # the handler's changes are rolled back
        if envelope.event.order_id == order_id:
            raise RuntimeError("poison")

    harness.runtime.handling._call = fail
    try:
        yield
    finally:
        harness.runtime.handling._call = call


@pytest.fixture
def topic(world: World, monkeypatch: pytest.MonkeyPatch) -> FakeDeadLetterTopic:
    """Collect the dead letters of inventory, and make retries due at once."""
    topic = FakeDeadLetterTopic()
    monkeypatch.setattr(world.inventory.runtime.handling, "_dead_letters", topic)
    monkeypatch.setattr(parking, "RETRY_FIRST", 0.0)
    return topic


def states(harness: ServiceHarness) -> list[tuple[str, int]]:
    return [(row.state, row.attempts) for row in harness.rows("parked_records")]


def retry_all(harness: ServiceHarness) -> list[Outcome]:
    outcomes = []
    while outcome := harness.runtime.handling.try_parked():
        outcomes.append(outcome)
        assert len(outcomes) < LIMIT, "the records are retried without end"
    return outcomes


def test_failing_record_is_dead_lettered_after_the_last_attempt(world: World, topic: FakeDeadLetterTopic) -> None:
    """After the last attempt a record is dead-lettered once, with its error, and none of its effects remains."""
    order = make_order_created()
    with poisoned(world.inventory, order.order_id):
        assert world.inventory.handle(order) is Outcome.FAILED
        assert retry_all(world.inventory) == [Outcome.FAILED] * (MAX_ATTEMPTS - 1) + [Outcome.DEAD]
    assert states(world.inventory) == [("dead", MAX_ATTEMPTS)]
    (letter,) = topic.letters
    assert letter.record.key == str(order.order_id)
    assert letter.record.headers["ce_type"] == "OrderCreated"
    assert "RuntimeError: poison" in (letter.error or "")
    assert world.inventory.rows("inbox") == world.inventory.rows("reservations") == []
    assert world.stock() == (100, 0, 0)


def test_record_that_succeeds_on_a_retry_is_no_longer_parked(world: World, topic: FakeDeadLetterTopic) -> None:
    """A record that succeeds on a retry is handled once and is no longer parked."""
    order = make_order_created()
    with poisoned(world.inventory, order.order_id):
        world.inventory.handle(order)
    assert retry_all(world.inventory) == [Outcome.HANDLED]
    assert states(world.inventory) == []
    assert world.stock() == (100, 2, 0)
    assert world.inventory.published(order.order_id) == ["InventoryReserved"]


def test_later_events_wait_behind_a_dead_letter_and_other_orders_proceed(
    world: World, topic: FakeDeadLetterTopic
) -> None:
    """While an order's event is dead, its later events are parked in order, and other orders are handled at once."""
    order, other = make_order_created(), make_order_created()
    with poisoned(world.inventory, order.order_id):
        world.inventory.handle(order)
        retry_all(world.inventory)
        cancel = make_event(order, OrderCancelRequested)
        assert world.inventory.handle(cancel) is Outcome.BEHIND
        assert world.inventory.handle(other) is Outcome.HANDLED
        assert retry_all(world.inventory) == []
    assert [state for state, _ in states(world.inventory)] == ["dead", "behind"]

    dead = world.inventory.rows("parked_records")[0].parking_id
    answer = world.inventory.http.post(f"/manage/dead-letters/{dead}/replay")
    assert answer.status_code == 202
    assert retry_all(world.inventory) == [Outcome.HANDLED, Outcome.HANDLED]
    assert states(world.inventory) == []
    assert world.inventory.published(order.order_id) == ["InventoryReserved", "InventoryReleased"]
    assert world.stock() == (100, 2, 0)  # of the other order


def test_replayed_record_that_still_fails_is_dead_lettered_again(world: World, topic: FakeDeadLetterTopic) -> None:
    """A replayed record has all its attempts again, and is dead-lettered a second time."""
    order = make_order_created()
    with poisoned(world.inventory, order.order_id):
        world.inventory.handle(order)
        retry_all(world.inventory)
        dead = world.inventory.rows("parked_records")[0].parking_id
        world.inventory.http.post(f"/manage/dead-letters/{dead}/replay")
        assert retry_all(world.inventory) == [Outcome.FAILED] * MAX_ATTEMPTS + [Outcome.DEAD]
    assert states(world.inventory) == [("dead", MAX_ATTEMPTS)]
    assert len(topic.letters) == 2


def test_discarding_a_dead_letter_releases_the_records_behind_it(world: World, topic: FakeDeadLetterTopic) -> None:
    """The records behind a discarded dead letter are handled as if it had never arrived."""
    order = make_order_created()
    with poisoned(world.inventory, order.order_id):
        world.inventory.handle(order)
        retry_all(world.inventory)
    world.inventory.handle(make_event(order, OrderCancelRequested))
    dead = world.inventory.rows("parked_records")[0].parking_id
    assert world.inventory.http.post(f"/manage/dead-letters/{dead}/discard").status_code == 200
    assert retry_all(world.inventory) == [Outcome.HANDLED]
    assert [row.status for row in world.inventory.rows("reservations")] == ["TOMBSTONE"]


def test_only_dead_letters_can_be_replayed_or_discarded(world: World, topic: FakeDeadLetterTopic) -> None:
    """Replay and discard return 404 for a record that is still retried, and for one that does not exist."""
    order = make_order_created()
    with poisoned(world.inventory, order.order_id):
        world.inventory.handle(order)
    parked = world.inventory.rows("parked_records")[0].parking_id
    for number in (parked, parked + 1):
        for verb in ("replay", "discard"):
            assert world.inventory.http.post(f"/manage/dead-letters/{number}/{verb}").status_code == 404
    assert len(world.inventory.http.get("/manage/parked-records").json()["items"]) == 1


def test_dead_letter_waits_for_the_broker_without_counting_attempts(world: World, topic: FakeDeadLetterTopic) -> None:
    """A record becomes a dead letter only when it is in the dead-letter topic."""
    bad = changed(record_of(make_order_created()), value=b"{")
    topic.is_available = False
    assert world.inventory.runtime.handling.handle(bad) is Outcome.FAILED
    assert world.inventory.runtime.handling.try_parked() is Outcome.BEHIND
    assert states(world.inventory) == [("given_up", 1)]
    topic.is_available = True
    with world.inventory.runtime.database.engine.begin() as connection:
        connection.execute(text("UPDATE parked_records SET due_at = now()"))
    assert retry_all(world.inventory) == [Outcome.DEAD]
    assert len(topic.letters) == 1


def test_record_that_the_topic_refuses_becomes_a_stub(world: World, topic: FakeDeadLetterTopic) -> None:
    """The dead letter then has the position, key, CloudEvents headers and error of the record, but not its value."""
    order = make_order_created()
    bad = changed(record_of(order), value=b"{" * 2000)
    topic.largest = 1500
    assert world.inventory.runtime.handling.handle(bad) is Outcome.FAILED
    assert retry_all(world.inventory) == [Outcome.DEAD]
    (letter,) = topic.letters
    assert (letter.record.topic, letter.record.offset, letter.record.key) == (bad.topic, bad.offset, bad.key)
    assert letter.record.headers["ce_type"] == "OrderCreated"
    assert letter.record.value is None
    assert "the OrderCreated payload is invalid" in (letter.error or "")
    assert "refuses the whole record: too large" in (letter.error or "")
    assert world.inventory.rows("parked_records")[0].value is None
    assert world.inventory.handle(make_event(order, OrderCancelRequested)) is Outcome.BEHIND


def test_record_is_dead_even_if_the_topic_refuses_its_stub(world: World, topic: FakeDeadLetterTopic) -> None:
    """If the topic refuses the stub, too, the database still has the dead letter, and nothing is retried."""
    topic.largest = 0
    world.inventory.runtime.handling.handle(changed(record_of(make_order_created()), value=b"{"))
    assert retry_all(world.inventory) == [Outcome.DEAD]
    assert states(world.inventory) == [("dead", 1)]
    assert topic.letters == []


def test_record_above_the_size_limit_is_parked_as_a_stub(world: World, topic: FakeDeadLetterTopic) -> None:
    """A record of several megabytes, which compression made small, is dead at once and stored without its value."""
    order = make_order_created()
    event = json.loads(record_of(order).value or b"") | {"note": "x" * 3 * MAX_RECORD_BYTES}
    large = changed(record_of(order), value=json.dumps(event).encode())
    assert world.inventory.runtime.handling.handle(large) is Outcome.FAILED
    assert retry_all(world.inventory) == [Outcome.DEAD]
    (row,) = world.inventory.rows("parked_records")
    assert (row.state, row.value, row.key) == ("dead", None, str(order.order_id))
    assert f"at most {MAX_RECORD_BYTES} are allowed" in row.error


def test_client_refuses_a_dead_letter_that_is_too_large() -> None:
    """The error differs from that of an absent broker, which is retried."""
    letters = DeadLetterPublisher("inventory", {"bootstrap.servers": NO_BROKER})
    large = changed(record_of(make_order_created()), value=b"x" * 3 * MAX_RECORD_BYTES)
    with pytest.raises(RecordRefused):
        letters.send(Parked(1, parking.State.GIVEN_UP, large, 1, permanent=True))


def test_redelivered_record_is_parked_once(world: World, topic: FakeDeadLetterTopic) -> None:
    """A record of the same topic, partition and offset is parked once, whatever its state."""
    bad = changed(record_of(make_order_created()), value=b"{")
    for _ in range(2):
        world.inventory.runtime.handling.handle(bad)
    assert retry_all(world.inventory) == [Outcome.DEAD]
    world.inventory.runtime.handling.handle(bad)
    assert retry_all(world.inventory) == []
    assert len(topic.letters) == 1


def test_record_without_a_key_blocks_no_order(world: World, topic: FakeDeadLetterTopic) -> None:
    """A record without a key belongs to no order, so it blocks none."""
    order = make_order_created()
    world.inventory.runtime.handling.handle(changed(record_of(order), key=None))
    assert retry_all(world.inventory) == [Outcome.DEAD]
    assert world.inventory.handle(order) is Outcome.HANDLED


def test_duplicate_of_a_handled_event_is_not_parked(world: World, topic: FakeDeadLetterTopic) -> None:
    """Events that were handled before the order's dead letter are still recognized as duplicates."""
    order = make_order_created()
    first = record_of(order)
    world.inventory.runtime.handling.handle(first)
    with poisoned(world.inventory, order.order_id):
        world.inventory.handle(make_event(order, OrderCancelRequested))
        again = changed(first, offset=first.offset + 10_000)
        assert world.inventory.runtime.handling.handle(again) is Outcome.DUPLICATE


@pytest.mark.parametrize("oddity", ["a NUL in the key", "a NUL in a header", "a megabyte"])
def test_records_with_nul_bytes_or_long_values_are_parked(
    world: World, topic: FakeDeadLetterTopic, oddity: str
) -> None:
    """Neither text that PostgreSQL can't store nor a very long value stops the consumer."""
    good = record_of(make_order_created())
    odd = {
        "a NUL in the key": lambda: changed(good, key="a\0b"),
        "a NUL in a header": lambda: changed(good, headers={**good.headers, "ce_id": "\0"}),
        "a megabyte": lambda: changed(good, value=b"x" * 1_000_000),
    }[oddity]()
    assert world.inventory.runtime.handling.handle(odd) is Outcome.FAILED
    assert retry_all(world.inventory) == [Outcome.DEAD]


def test_two_processes_share_the_parked_records(world: World, topic: FakeDeadLetterTopic) -> None:
    """A record that one process is retrying is skipped by the other."""
    order: Event = make_order_created()
    with poisoned(world.inventory, order.order_id):
        world.inventory.handle(order)
    with world.inventory.runtime.database.transaction() as tx:
        assert parking.next_due(tx.connection) is not None
        assert world.inventory.runtime.handling.try_parked() is None
    assert retry_all(world.inventory) == [Outcome.HANDLED]


def test_retry_delay_grows_with_jitter() -> None:
    """Each delay is about twice the one before, up to a limit, with random jitter."""
    error = RuntimeError("again")
    waits = [[Failure.of(error, n).wait_seconds for _ in range(200)] for n in range(1, MAX_ATTEMPTS)]
    for n, sample in enumerate(waits):
        middle = parking.RETRY_FIRST * 2**n
        assert 0.5 * middle <= min(sample) < max(sample) <= 1.5 * middle
    assert Failure.of(error, MAX_ATTEMPTS).state == "given_up"
    assert Failure.of(InvalidRecord("bad"), 1).state == "given_up"


def test_answer_to_a_missing_order_is_retried(world: World, topic: FakeDeadLetterTopic) -> None:
    """An answer to an order that does not exist yet is retried, because the order may still arrive."""
    order_id = world.place()
    created = OrderCreated.model_validate_json(json.dumps(world.order.rows("outbox")[0].payload))
    reserved = make_event(created, InventoryReserved)
    with world.order.runtime.database.engine.begin() as connection:
        kept = connection.execute(text("DELETE FROM orders RETURNING *")).one()
    assert world.order.handle(reserved) is Outcome.FAILED
    orders = world.order.service.tables.tables["orders"]
    with world.order.runtime.database.engine.begin() as connection:
        connection.execute(orders.insert(), dict(kept._mapping))
        connection.execute(text("UPDATE parked_records SET due_at = now()"))
    assert retry_all(world.order) == [Outcome.HANDLED]
    assert world.history(order_id)[-1] == "RESERVED"
