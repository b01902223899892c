"""Partitions of an order's records: always the ones that Kafka's own partitioner chooses for the key."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from labkit.client.partitions import MASK, murmur2, partition_of
from labstack.clients import broker, probe_event
from labstack.clients.broker import Record
from labstack.lab import access_of
from labstack.scenarios.demo import run_demo
from tests.stack.labs import LabHarness

PARTITIONS = 4


def misplaced_keys(records: Iterable[Record]) -> list[str]:
    """Return the orders that have a record in the wrong partition.

    If each record is in the right partition, all records of an order share one partition in each topic.
    """
    return sorted({str(r.key) for r in records if r.key is None or r.partition != partition_of(r.key)})


def make_record(key: str | None, partition: int) -> Record:
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
def test_murmur2_matches_kafkas_client(key: str, expected: int) -> None:
    """`murmur2` returns the numbers that the tests of Kafka's own client expect."""
    assert murmur2(key.encode()) == expected & MASK


def test_probe_event_keys_reach_every_partition() -> None:
    """The keys of the probe events reach every partition."""
    assert {partition_of(key) for key in probe_event.KEYS} == set(range(PARTITIONS))


def test_wrong_partitions_are_detected() -> None:
    """Records that alternate between partitions are detected, and so are records without a key."""
    keys = list(probe_event.KEYS)
    assert misplaced_keys(make_record(key, partition_of(key)) for key in keys) == []
    assert misplaced_keys(make_record(key, number % PARTITIONS) for key in keys for number in range(2)) == sorted(keys)
    assert misplaced_keys([make_record(None, 0)]) == ["None"]


def test_every_record_is_in_the_partition_of_its_key(shared: LabHarness) -> None:
    """No topic has a record in the wrong partition, because Debezium leaves the choice to Kafka's partitioner."""
    shared.lab.reset()  # earlier tests may have published records directly
    run_demo(shared.lab.endpoints)
    records = broker.read_all(
        shared.lab.endpoints.kafka, [service.events_topic for service in access_of(shared.lab).services]
    )
    assert len(records) > 20
    assert misplaced_keys(records) == []


def test_dual_written_events_are_in_debeziums_partitions(shared: LabHarness) -> None:
    """A service that publishes to Kafka directly chooses the same partitions as Debezium."""
    shared.lab.reset()
    shared.lab.faults.on("order", "dual-write")
    run_demo(shared.lab.endpoints)
    records = broker.read_all(shared.lab.endpoints.kafka, ["order.events"])
    assert len(records) > 5
    assert misplaced_keys(records) == []
    shared.lab.reset()
