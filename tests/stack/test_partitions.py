"""Where the records of an order lie: always where Kafka's own partitioner puts its key."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from labkit.partitions import MASK, murmur2, partition_of
from labstack import broker, canary
from labstack.broker import Record
from tests.stack.labs import Grounds

PARTITIONS = 4


def strays(records: Iterable[Record]) -> list[str]:
    """Find the orders that have a record where it does not belong.

    What holds for each record by itself holds for all of an order: they lie together, in each topic.
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
    """It gives the numbers that the tests of Kafka's own client expect."""
    assert murmur2(key.encode()) == expected & MASK


def test_the_keys_of_the_canaries_reach_every_partition() -> None:
    """There is one for each partition."""
    assert {partition_of(key) for key in canary.KEYS} == set(range(PARTITIONS))


def test_a_changed_partitioner_is_caught() -> None:
    """Records that go round the partitions in turn are strays, and so are those without a key."""
    keys = list(canary.KEYS)
    assert strays(a_record(key, partition_of(key)) for key in keys) == []
    assert strays(a_record(key, number % PARTITIONS) for key in keys for number in range(2)) == sorted(keys)
    assert strays([a_record(None, 0)]) == ["None"]


def test_every_record_lies_where_its_key_belongs(shared: Grounds) -> None:
    """Debezium leaves the partition to Kafka's partitioner: no order has a stray record in any topic."""
    shared.lab.reset()  # tests before may have written records by hand
    shared.lab.demo()
    records = broker.read_all(shared.lab.endpoints.kafka, [service.events_topic for service in shared.lab.services])
    assert len(records) > 20
    assert strays(records) == []


def test_an_event_that_is_written_twice_lies_where_debezium_would_put_it(shared: Grounds) -> None:
    """A service that sends to Kafka by itself chooses its partitions as everybody does."""
    shared.lab.reset()
    shared.lab.switch_on("order", "dual-write")
    shared.lab.demo()
    records = broker.read_all(shared.lab.endpoints.kafka, ["order.events"])
    assert len(records) > 5
    assert strays(records) == []
    shared.lab.reset()
