"""Topics and consumer groups for practice, beside those of the shop: create, fill, read and delete them.

They are on the lab's own broker and do not affect the shop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
from confluent_kafka import Consumer, Producer, TopicPartition
from pydantic import Field

from labkit.errors import KitError, running
from labkit.waiting import wait_until
from labstack import Lab
from labstack.arguments import Count, Seconds, Text, checked, checked_class
from labstack.clients import broker, practice
from labstack.clients.broker import FAST_RECONNECT, Record
from labstack.errors import one_of

JAVA_PARTITIONER = "murmur2_random"
"""The librdkafka name of the partitioner of Kafka's own clients. The default of librdkafka is another one, crc32."""

PARTITIONERS = ("murmur2_random", "murmur2", "consistent_random", "consistent", "fnv1a_random", "fnv1a", "random")
"""The partitioners of librdkafka."""

MAX_WORKERS = 12

Partitions = Annotated[int, Field(ge=1, le=100)]


@dataclass(frozen=True)
class Handled:
    """A record that a worker has handled, with the start and the end in seconds since the work began."""

    worker: int
    record: Record
    began: float
    ended: float


@checked_class
class Practice:
    """Creates topics and groups for practice.

    Parameters
    ----------
    lab : Lab
        The running lab.

    Examples
    --------
    >>> practice = Practice(lab)
    >>> topic = practice.topic(partitions=4)
    >>> practice.write(topic, [("ada", "a gift"), ("grace", "another")])
    >>> practice.clean()
    """

    @checked
    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    @property
    def kafka(self) -> str:
        """The bootstrap server."""
        return running(self._lab).kafka

    def topic(self, partitions: Partitions = 4) -> str:
        """Create a topic, and return its name."""
        return practice.make_topic(self.kafka, partitions)

    def grow(self, topic: Text, partitions: Partitions) -> None:
        """Raise a topic's number of partitions to `partitions`."""
        practice.add_partitions(self.kafka, self._known(topic), partitions)

    def group(self) -> str:
        """Return a name for a new group. The group exists as soon as a consumer joins it."""
        return practice.new_name()

    def write(
        self,
        topic: str,
        records: Iterable[tuple[str | None, str]],
        *,
        partitioner: str = JAVA_PARTITIONER,
        partitions: Sequence[int] = (),
    ) -> None:
        """Write records in the given order.

        Parameters
        ----------
        topic : str
            The target topic.
        records : iterable of (key, value)
            The records.
        partitioner : str
            The partitioner that chooses a key's partition.
        partitions : sequence of int, optional
            One partition for each record, instead of the partitioner's choice.
        """
        if partitioner not in PARTITIONERS:
            raise KitError(f"Unknown partitioner {partitioner!r}.", next_step=one_of(partitioner, PARTITIONERS))
        every, known = list(records), [one.partition for one in broker.partitions(self.kafka, [self._known(topic)])]
        if partitions and (len(partitions) != len(every) or not set(partitions) <= set(known)):
            raise KitError(
                f"{len(every)} records can't be written to the partitions {partitions}.",
                next_step=f"name one partition for each record, out of {known}",
            )
        producer = Producer({"bootstrap.servers": self.kafka, "partitioner": partitioner, **FAST_RECONNECT})
        for number, (key, value) in enumerate(every):
            partition: dict[str, Any] = {"partition": partitions[number]} if partitions else {}
            producer.produce(topic, value=value.encode(), key=key.encode() if key is not None else None, **partition)
        if unsent := producer.flush(15):
            raise KitError(f"{unsent} records were not taken.", next_step="`lab` shows how the broker is")

    def read(self, topic: str) -> list[Record]:
        """Return every record of a topic, sorted by partition and offset."""
        found = broker.read_all(self.kafka, [self._known(topic)])
        return sorted(found, key=lambda record: (record.partition, record.offset))

    @contextmanager
    def workers(self, topic: str | list[str], number: int, handle: Callable[[Record], object]) -> Iterator[Workers]:
        """Run workers that read one or several topics from the beginning, as one new group, until the block ends.

        Parameters
        ----------
        topic : str or list of str
            The topics to read.
        number : int
            The number of workers.
        handle : callable
            Called by a worker with each record.
        """
        if not 0 < number <= MAX_WORKERS:
            raise KitError(f"{number} workers are none, or too many.", next_step=f"use 1 to {MAX_WORKERS} workers")
        topics = [self._known(one) for one in ([topic] if isinstance(topic, str) else topic)]
        if not topics:
            raise KitError(
                "The list of topics is empty.", next_step="name at least one topic, such as `practice.topic()`"
            )
        team = Workers(self.kafka, topics, self.group(), number, handle)
        try:
            team.join_group()
            yield team
        finally:
            team.close()

    def _known(self, topic: str) -> str:
        if not topic or not broker.partitions(self.kafka, [topic]):
            raise KitError(f"Unknown topic {topic[:60]!r}.", next_step="create one with `practice.topic()`")
        return topic

    def remove(self, topic: str) -> None:
        """Delete one practice topic; a topic that is already deleted causes no error."""
        practice.delete_topics(self.kafka, [topic])

    def clean(self) -> int:
        """Delete every practice topic and every empty practice group, and return the number of deleted topics."""
        return practice.delete_all(self.kafka)


@checked_class
class Workers:
    """Consumers of one group, each in a separate thread. They start once all have joined and share the partitions.

    Attributes
    ----------
    handled : list of Handled
        The handled records, in the order in which they were handled.
    """

    def __init__(
        self, kafka: str, topics: list[str], group: str, number: int, handle: Callable[[Record], object]
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._group = group
        self._handle = handle
        self._started, self._stopping = threading.Event(), threading.Event()
        self._start_time = 0.0
        self.handled: list[Handled] = []
        self.assigned: list[list[int] | None] = [None] * number  # None: not in the group
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(number)]

    def join_group(self) -> None:
        """Let every worker join, and wait until each partition has exactly one owner."""
        every = sorted(p.partition for p in broker.partitions(self._kafka, self._topics))

        def is_assigned() -> bool:
            shares = list(self.assigned)
            return None not in shares and sorted(number for share in shares for number in share or ()) == every

        for thread in self._threads:
            thread.start()
        wait_until(is_assigned, 20, what=f"{len(self._threads)} consumers to share {len(every)} partitions")

    def finish(self, records: Count, timeout: Seconds = 60) -> pd.DataFrame:
        """Start the workers, wait until they have handled `records` records, and return their counts as a table."""
        self._start_time = time.monotonic()
        self._started.set()
        wait_until(lambda: len(self.handled) >= records, timeout, what=f"{records} records to be handled")
        return self.table()

    def table(self) -> pd.DataFrame:
        """Return for each worker its partitions, its number of records, and the end of its last record."""
        rows = []
        for number, share in enumerate(self.assigned):
            handled = [one for one in self.handled if one.worker == number]
            rows.append((share or [], len(handled), round(max((one.ended for one in handled), default=0.0), 1)))
        rows.sort(key=lambda row: (not row[0], row[0]))  # the assignment of partitions to workers is random
        table = pd.DataFrame(rows, columns=["partitions", "records", "seconds"])
        table.index = pd.Index(range(1, len(rows) + 1), name="worker")
        return table

    @property
    def seconds(self) -> float:
        """Seconds from the start to the last record."""
        return max((one.ended for one in self.handled), default=0.0)

    def close(self) -> None:
        """Stop the workers and wait until they have left the group."""
        self._stopping.set()
        for thread in self._threads:
            if thread.ident:
                thread.join(10)

    def _work(self, number: int) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._kafka,
                "group.id": self._group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 500,
                # How long librdkafka waits for the answer to a JoinGroup request that a restarted broker has lost.
                "max.poll.interval.ms": 30_000,
                "fetch.wait.max.ms": 50,
                **FAST_RECONNECT,
            },
            logger=broker.silent_logger,
        )

        def on_assign(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            consumer.assign(partitions)
            # A partition that was revoked and assigned again would still be paused.
            (consumer.resume if self._started.is_set() else consumer.pause)(partitions)
            self.assigned[number] = sorted(p.partition for p in partitions)

        def on_revoke(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            self.assigned[number] = None

        consumer.subscribe(self._topics, on_assign=on_assign, on_revoke=on_revoke)
        waiting = True
        try:
            while not self._stopping.is_set():
                if waiting and self._started.is_set():
                    consumer.resume(consumer.assignment())
                    waiting = False
                record = broker.poll(consumer, 0.05)
                if record is not None:
                    self._handle_record(number, record)
        finally:
            had = self.assigned[number]
            consumer.close()
            self.assigned[number] = had  # keep the assignment for later queries

    def _handle_record(self, number: int, record: Record) -> None:
        began = time.monotonic() - self._start_time
        self._handle(record)
        self.handled.append(Handled(number, record, began, time.monotonic() - self._start_time))
