"""Consumer lag: the records that a group has not committed yet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition

from labservices.messaging.lag import Lag
from tests.services.kafka import KafkaBroker
from tests.services.world import changed, make_order_created, record_of

TOPIC = "order.events"


@pytest.fixture
def broker() -> Iterator[KafkaBroker]:
    """Run a broker with three records in the first partition and one in the second."""
    broker = KafkaBroker(TOPIC)
    broker.write(*(changed(record_of(make_order_created()), partition=number) for number in (0, 0, 0, 1)))
    yield broker
    broker.close()


def lag_of(broker: KafkaBroker) -> dict[tuple[str, str], float]:
    lag = Lag("payment", [TOPIC, "missing.events"], {"bootstrap.servers": broker.address, "log_level": 0})
    (family,) = lag.query()
    return {(one.labels["topic"], one.labels["partition"]): one.value for one in family.samples}


def commit(broker: KafkaBroker, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "payment", "log_level": 0})
    consumer.commit(offsets=[TopicPartition(TOPIC, 0, offset)], asynchronous=False)
    consumer.close()


def test_lag_of_a_group_without_commits_is_the_whole_log(broker: KafkaBroker) -> None:
    """A group that has committed nothing starts at the oldest record, so every record counts."""
    assert lag_of(broker) == {(TOPIC, "0"): 3, (TOPIC, "1"): 1}


def test_lag_is_the_end_minus_the_committed_offset(broker: KafkaBroker) -> None:
    """A committed partition counts the records after the offset; one without a commit still counts from its start."""
    commit(broker, 2)
    assert lag_of(broker) == {(TOPIC, "0"): 1, (TOPIC, "1"): 1}
    commit(broker, 3)
    assert lag_of(broker) == {(TOPIC, "0"): 0, (TOPIC, "1"): 1}


def test_lag_starts_at_the_oldest_record_that_is_left(broker: KafkaBroker) -> None:
    """Records that the broker has deleted do not count for a group without commits."""
    broker.delete_records(TOPIC, partition=0, before=2)
    assert lag_of(broker) == {(TOPIC, "0"): 1, (TOPIC, "1"): 1}
