"""The consumer: commits the offset of a record only after the record is handled, and loses none meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from threading import Event
from types import SimpleNamespace

import pytest
from confluent_kafka import Consumer

from labservices import messaging
from labservices.events import OrderCancelRequested
from labservices.messaging import parking
from labservices.messaging.consumer import EventConsumer
from labservices.messaging.handling import Outcome, RecordHandling, RetryLater
from labservices.record import Record
from labstack.waiting import wait_until
from tests.services.kafka import KafkaBroker
from tests.services.test_handlers import make_event
from tests.services.test_parking import poisoned
from tests.services.world import World, changed, make_order_created, record_of

TOPIC = "order.events"
PATIENCE = 20.0


class RecordedHandling:
    """Inventory's handling, which also counts the attempts by offset, and may refuse records for now.

    Attributes
    ----------
    refused
        Partitions whose records must be retried later.
    """

    def __init__(self, handling: RecordHandling) -> None:
        self._handling = handling
        self.refused: set[int] = set()
        self.attempts: Counter[tuple[int, int]] = Counter()
        self.handled: list[tuple[int, int]] = []
        self.try_parked = handling.try_parked
        self.seconds_until_due = handling.seconds_until_due

    def handle(self, record: Record) -> Outcome:
        position = record.partition, record.offset
        self.attempts[position] += 1
        if record.partition in self.refused:
            raise RetryLater("not now")
        outcome = self._handling.handle(record)
        self.handled.append(position)
        return outcome


@pytest.fixture
def broker(world: World) -> Iterator[KafkaBroker]:
    """Run a broker with the topics that inventory consumes."""
    broker = KafkaBroker(*world.inventory.service.topics)
    yield broker
    broker.close()


@pytest.fixture
def handling(world: World) -> RecordedHandling:
    return RecordedHandling(world.inventory.runtime.handling)


@pytest.fixture
def start(world: World, broker: KafkaBroker, handling: RecordedHandling) -> Iterator[Callable[[], EventConsumer]]:
    """Return a function that starts a consumer of inventory, which is stopped after the test."""
    started: list[EventConsumer] = []

    def start_consumer() -> EventConsumer:
        consumer = EventConsumer(world.inventory.service, broker.settings(world.inventory.runtime.settings), handling)
        consumer.start()
        started.append(consumer)
        return consumer

    yield start_consumer
    for consumer in started:
        consumer.stop(PATIENCE)


def records(number: int, partition: int = 0) -> list[Record]:
    return [changed(record_of(make_order_created()), partition=partition) for _ in range(number)]


def wait_for_state(consumer: EventConsumer, state: str) -> None:
    wait_until(lambda: consumer.state()["state"] == state, PATIENCE, what=f"the consumer to be {state}")


def test_offset_is_committed_after_the_record_is_handled(
    broker: KafkaBroker, handling: RecordedHandling, start: Callable[[], EventConsumer]
) -> None:
    """Soon after a record is handled, and while the consumer runs, the offset after it is committed."""
    broker.write(*records(3))
    consumer = start()
    wait_until(lambda: broker.committed("inventory", TOPIC) == [3, None], PATIENCE)
    assert handling.handled == [(0, 0), (0, 1), (0, 2)]
    assert consumer.state() == {
        "state": "running",
        "assigned": [
            {"topic": topic, "partition": number}
            for topic in ("order.events", "payment.events", "shipping.events")
            for number in (0, 1)
        ],
        "held": [],
    }


def test_stop_commits_what_is_handled(
    broker: KafkaBroker,
    handling: RecordedHandling,
    start: Callable[[], EventConsumer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A consumer that stops commits the offsets of the records that it has handled before it leaves its group."""
    monkeypatch.setattr(messaging.consumer, "COMMIT_EVERY", 3600.0)
    broker.write(*records(3))
    consumer = start()
    wait_until(lambda: len(handling.handled) == 3, PATIENCE)
    assert broker.committed("inventory", TOPIC) == [None, None]
    consumer.stop(PATIENCE)
    assert broker.committed("inventory", TOPIC) == [3, None]
    assert consumer.state() == {"state": "stopped", "assigned": [], "held": []}


def test_nothing_is_lost_if_the_consumer_stops_while_its_database_is_unavailable(
    world: World, broker: KafkaBroker, handling: RecordedHandling, start: Callable[[], EventConsumer]
) -> None:
    """While the database is unavailable no offset is committed, at the stop neither; the next consumer handles all."""
    database = world.inventory.runtime.database
    sent = records(3)
    database.schema_created.clear()  # without a schema the database is unavailable
    try:
        broker.write(*sent)
        consumer = start()
        wait_until(lambda: handling.attempts[0, 0] >= 3, PATIENCE, what="two more attempts")
        assert consumer.state()["state"] == "waiting for the database"
        (held,) = consumer.state()["held"]
        assert (held["topic"], held["partition"], held["offset"]) == (TOPIC, 0, 0)
        assert broker.committed("inventory", TOPIC) == [None, None]
        consumer.stop(PATIENCE)
        assert broker.committed("inventory", TOPIC) == [None, None]
        assert handling.handled == []
    finally:
        database.schema_created.set()
    start()
    wait_until(lambda: len(world.inventory.rows("inbox")) == 3, PATIENCE)
    assert handling.handled == [(0, 0), (0, 1), (0, 2)]


def test_held_record_stops_only_its_partition(
    broker: KafkaBroker, handling: RecordedHandling, start: Callable[[], EventConsumer]
) -> None:
    """While a record must be retried, its partition waits and the others proceed; then all follow in their order."""
    handling.refused = {0}
    broker.write(*records(3), *records(2, partition=1))
    consumer = start()
    wait_until(lambda: broker.committed("inventory", TOPIC) == [None, 2], PATIENCE)
    assert handling.handled == [(1, 0), (1, 1)]
    wait_until(lambda: handling.attempts[0, 0] >= 2, PATIENCE)
    assert handling.attempts.keys() == {(0, 0), (1, 0), (1, 1)}
    broker.write(*records(1))
    handling.refused = set()
    wait_until(lambda: broker.committed("inventory", TOPIC) == [4, 2], PATIENCE)
    assert [offset for partition, offset in handling.handled if partition == 0] == [0, 1, 2, 3]
    wait_for_state(consumer, "running")
    assert consumer.state()["held"] == []


def test_failed_commit_is_repeated(broker: KafkaBroker, start: Callable[[], EventConsumer]) -> None:
    """A commit that the broker refuses is repeated, though no further record arrives."""
    broker.refuse_commits(1)
    broker.write(*records(2))
    start()
    wait_until(lambda: broker.committed("inventory", TOPIC) == [2, None], PATIENCE)


def test_paused_consumer_leaves_its_group_and_resumes_where_it_was(
    broker: KafkaBroker, handling: RecordedHandling, start: Callable[[], EventConsumer]
) -> None:
    """A pause commits and gives up the partitions; after it, each record is handled once."""
    broker.write(*records(2))
    consumer = start()
    wait_until(lambda: len(handling.handled) == 2, PATIENCE)
    assert consumer.pause(PATIENCE)
    assert broker.committed("inventory", TOPIC) == [2, None]
    assert consumer.state() == {"state": "paused", "assigned": [], "held": []}
    broker.write(*records(1))
    consumer.resume()
    wait_until(lambda: broker.committed("inventory", TOPIC) == [3, None], PATIENCE)
    assert handling.attempts == {(0, 0): 1, (0, 1): 1, (0, 2): 1}


def test_client_that_hangs_at_its_end_is_abandoned(
    broker: KafkaBroker,
    handling: RecordedHandling,
    start: Callable[[], EventConsumer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Kafka client whose ``close()`` never returns blocks neither a pause nor the records after it.

    librdkafka hangs like this if the broker restarts at the wrong moment.
    """
    ended = Event()

    class Hanging(Consumer):
        def close(self) -> None:
            super().close()
            ended.wait()

    monkeypatch.setattr(messaging.consumer, "CLOSE_TIMEOUT", 0.2)
    monkeypatch.setattr(messaging.consumer, "Consumer", Hanging)
    broker.write(*records(2))
    consumer = start()
    wait_until(lambda: broker.committed("inventory", TOPIC) == [2, None], PATIENCE)
    try:
        assert consumer.pause(PATIENCE)
        broker.write(*records(1))
        consumer.resume()
        wait_until(lambda: broker.committed("inventory", TOPIC) == [3, None], PATIENCE)
    finally:
        ended.set()
    assert handling.attempts == {(0, 0): 1, (0, 1): 1, (0, 2): 1}


def test_consumer_that_does_not_poll_is_stuck(
    broker: KafkaBroker,
    handling: RecordedHandling,
    start: Callable[[], EventConsumer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A consumer that has not polled for a while reports that it is stuck, and a failed pause logs its stack."""
    entered, leave = Event(), Event()

    def hang(record: Record) -> Outcome:
        entered.set()
        leave.wait()
        return Outcome.IGNORED

    monkeypatch.setattr(messaging.consumer, "STUCK_AFTER", 0.1)
    monkeypatch.setattr(handling, "handle", hang)
    broker.write(*records(1))
    consumer = start()
    try:
        assert entered.wait(PATIENCE)
        wait_for_state(consumer, "stuck")
        with caplog.at_level("WARNING"):
            assert not consumer.pause(0.1)
        assert "leave.wait()" in caplog.text
        consumer.resume()
    finally:
        leave.set()
    monkeypatch.undo()
    wait_for_state(consumer, "running")


def test_many_parked_records_do_not_keep_the_consumer_from_polling(
    world: World, handling: RecordedHandling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parked records are retried one after another, for at most 0.2 seconds before the next poll."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(messaging.consumer, "time", SimpleNamespace(monotonic=lambda: clock.now))
    tried: list[float] = []

    def try_parked() -> Outcome:
        tried.append(clock.now)
        assert len(tried) < 10, "the parked records are retried without end"
        clock.now += 0.07
        return Outcome.FAILED

    monkeypatch.setattr(handling, "try_parked", try_parked)
    consumer = EventConsumer(world.inventory.service, world.inventory.runtime.settings, handling)
    consumer._try_parked()
    assert len(tried) == 3
    consumer._try_parked()
    assert len(tried) == 6


def test_parked_record_is_retried_when_it_is_due(
    world: World,
    broker: KafkaBroker,
    start: Callable[[], EventConsumer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failing record does not hold its partition; the same consumer retries it, and then what waits behind it."""
    monkeypatch.setattr(parking, "RETRY_FIRST", 0.1)
    order = make_order_created()
    failing = record_of(order)
    with poisoned(world.inventory, order.order_id):
        broker.write(failing, record_of(make_event(order, OrderCancelRequested)), *records(1))
        start()
        wait_until(lambda: broker.committed("inventory", TOPIC) == [3, None], PATIENCE)
        assert [row.state for row in world.inventory.rows("parked_records")] == ["retrying", "behind"]
    wait_until(lambda: world.inventory.rows("parked_records") == [], PATIENCE)
    assert world.inventory.published(order.order_id) == ["InventoryReserved", "InventoryReleased"]
