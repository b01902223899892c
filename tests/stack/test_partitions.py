"""Partitions of an order's records: always the ones that Kafka's own partitioner chooses for the key."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from labkit.client.partitions import MASK, murmur2, partition_of
from labstack.clients import broker, canary
from labstack.clients.broker import Record
from tests.stack.labs import Grounds

PARTITIONS = 4


def strays(records: Iterable[Record]) -> list[str]:
    """Return the orders that have a record in the wrong partition.

    If each record is in the right partition, all records of an order share one partition in each topic.
    """
    return sorted({str(r.key) for r in records if r.key is None or r.partition != partition_of(r.key)})


def a_record(key: str | None, partition: int) -> Record:
    return Record("order.events", partition, 0, 0, key, {}, b"{}")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_the_hash_is_kafkas(key: str, expected: int) -> None:
    """`murmur2` returns the numbers that the tests of Kafka's own client expect."""
    assert murmur2(key.encode()) == expected & MASK


def test_the_keys_of_the_canaries_reach_every_partition() -> None:
    """The keys of the probe events reach every partition."""
    assert {partition_of(key) for key in canary.KEYS} == set(range(PARTITIONS))


def test_a_changed_partitioner_is_caught() -> None:
    """Records that alternate between partitions are detected, and so are records without a key."""
    keys = list(canary.KEYS)
    assert strays(a_record(key, partition_of(key)) for key in keys) == []
    assert strays(a_record(key, number % PARTITIONS) for key in keys for number in range(2)) == sorted(keys)
    assert strays([a_record(None, 0)]) == ["None"]


def test_every_record_lies_where_its_key_belongs(shared: Grounds) -> None:
    """No topic has a record in the wrong partition, because Debezium leaves the choice to Kafka's partitioner."""
    shared.lab.reset()  # earlier tests may have published records directly
    shared.lab.demo()
    records = broker.read_all(shared.lab.endpoints.kafka, [service.events_topic for service in shared.lab.services])
    assert len(records) > 20
    assert strays(records) == []


def test_an_event_that_is_written_twice_lies_where_debezium_would_put_it(shared: Grounds) -> None:
    """A service that publishes to Kafka directly chooses the same partitions as Debezium."""
    shared.lab.reset()
    shared.lab.switch_on("order", "dual-write")
    shared.lab.demo()
    records = broker.read_all(shared.lab.endpoints.kafka, ["order.events"])
    assert len(records) > 5
    assert strays(records) == []
    shared.lab.reset()
