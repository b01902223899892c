"""The dead-letter topic, with the real sender: a record is dead only once the broker has acknowledged it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from labservices.messaging import dead_letters
from labservices.messaging.consumer import producer_settings
from labservices.messaging.dead_letters import BrokerUnavailable, DeadLetterPublisher
from labservices.messaging.handling import Outcome
from labservices.messaging.parking import Parked, State
from tests.services.kafka import KafkaBroker
from tests.services.world import World, changed, make_order_created, record_of

QUIET = {"log_level": 0}


@pytest.fixture
def broker() -> Iterator[KafkaBroker]:
    """Run a broker with the dead-letter topic of inventory."""
    broker = KafkaBroker("inventory.dlq")
    yield broker
    broker.close()


@pytest.fixture
def sender(world: World, broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> DeadLetterPublisher:
    """Give inventory its real sender, connected to the broker."""
    runtime = world.inventory.runtime
    settings = producer_settings(runtime.service, broker.settings(runtime.settings))
    sender = DeadLetterPublisher("inventory", settings | QUIET)
    monkeypatch.setattr(runtime.handling, "_dead_letters", sender)
    return sender


def make_parked() -> Parked:
    record = changed(record_of(make_order_created()), partition=3, offset=17)
    return Parked(5, State.GIVEN_UP, record, 4, permanent=False, error="ValueError: no")


def test_dead_letter_is_the_record_with_its_failure_in_headers(
    broker: KafkaBroker, sender: DeadLetterPublisher
) -> None:
    """The topic gets key, value and headers of the record unchanged, and headers that describe the failure."""
    parked = make_parked()
    sender.send(parked)
    (letter,) = broker.read("inventory.dlq")
    assert (letter.key, letter.value) == (parked.record.key, parked.record.value)
    headers = dict(letter.headers)
    assert headers.pop("dlq.time") > "2026"
    assert headers == {
        **parked.record.headers,
        "dlq.service": "inventory",
        "dlq.topic": "order.events",
        "dlq.partition": "3",
        "dlq.offset": "17",
        "dlq.error": "ValueError: no",
        "dlq.attempts": "4",
        "dlq.id": "inventory-5",
    }


def test_refused_dead_letter_is_an_error(broker: KafkaBroker, sender: DeadLetterPublisher) -> None:
    """An error in the broker's response is not an acknowledgement; the sender can send the next record."""
    broker.refuse_produce()
    with pytest.raises(BrokerUnavailable, match="POLICY_VIOLATION"):
        sender.send(make_parked())
    assert broker.read("inventory.dlq") == []
    sender.send(make_parked())
    assert len(broker.read("inventory.dlq")) == 1


def test_unreachable_broker_is_an_error(
    broker: KafkaBroker, sender: DeadLetterPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that can't be sent in time raises."""
    monkeypatch.setattr(dead_letters, "TIMEOUT", 0.5)
    with broker.unavailable(), pytest.raises(BrokerUnavailable, match="MSG_TIMED_OUT"):
        sender.send(make_parked())


def test_missing_acknowledgement_is_an_error(
    broker: KafkaBroker, sender: DeadLetterPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that the broker has received and does not acknowledge in time raises."""
    sender.send(make_parked())
    monkeypatch.setattr(dead_letters, "TIMEOUT", 0.0)
    with broker.slow(30), pytest.raises(BrokerUnavailable, match="no acknowledgement in time"):
        sender.send(make_parked())


def test_record_stays_parked_until_the_broker_has_it(
    world: World, broker: KafkaBroker, sender: DeadLetterPublisher
) -> None:
    """While the broker refuses the dead letter, the record is given up; it is dead once the topic has it."""
    bad = changed(record_of(make_order_created()), value=b"{")
    broker.refuse_produce()
    handling = world.inventory.runtime.handling
    assert handling.handle(bad) is Outcome.FAILED
    assert handling.try_parked() is Outcome.BEHIND
    (parked,) = world.inventory.rows("parked_records")
    assert (parked.state, parked.attempts) == ("given_up", 1)
    assert broker.read("inventory.dlq") == []
    with world.inventory.runtime.database.engine.begin() as connection:
        connection.execute(text("UPDATE parked_records SET due_at = now()"))
    assert handling.try_parked() is Outcome.DEAD
    (parked,) = world.inventory.rows("parked_records")
    assert parked.state == "dead"
    (letter,) = broker.read("inventory.dlq")
    assert (letter.value, letter.headers["dlq.id"]) == (b"{", f"inventory-{parked.parking_id}")
