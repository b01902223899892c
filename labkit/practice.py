"""Topics and consumer groups to practise with, beside those of the shop: made, filled, read and taken away again.

They lie on the lab's own broker, and the shop doesn't notice them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
from confluent_kafka import Consumer, Producer, TopicPartition

from labkit.errors import KitError
from labkit.waiting import wait_until
from labstack import Lab, broker, practice
from labstack.broker import QUICK, Record

LIKE_JAVA = "murmur2_random"
"""How librdkafka calls the way in which Kafka's own clients choose a partition; by itself it takes another, crc32."""

MOST_WORKERS = 12


@dataclass(frozen=True)
class Handled:
    """A record that a worker has handled: which worker, which record, and when, in seconds since the work began."""

    worker: int
    record: Record
    began: float
    ended: float


class Practice:
    """Makes topics and groups to practise with.

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

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    @property
    def kafka(self) -> str:
        """The bootstrap server."""
        if not self._lab.endpoints.kafka:
            raise KitError("The lab is not running.", next_step="run `lab.up()`")
        return self._lab.endpoints.kafka

    def topic(self, partitions: int = 4) -> str:
        """Make a new topic, and return its name."""
        return practice.make_topic(self.kafka, partitions)

    def grow(self, topic: str, partitions: int) -> None:
        """Let a topic have more partitions, so many in all."""
        practice.add_partitions(self.kafka, topic, partitions)

    def group(self) -> str:
        """Return a name for a new group. A group is there as soon as somebody joins it."""
        return practice.new_name()

    def write(
        self,
        topic: str,
        records: Iterable[tuple[str | None, str]],
        *,
        partitioner: str = LIKE_JAVA,
        partitions: Sequence[int] = (),
    ) -> None:
        """Write records, one after the other.

        Parameters
        ----------
        topic : str
            Where to.
        records : iterable of (key, value)
            What.
        partitioner : str
            How a key's partition is chosen.
        partitions : sequence of int, optional
            The partitions, one for each record, instead of those that the partitioner would choose.
        """
        producer = Producer({"bootstrap.servers": self.kafka, "partitioner": partitioner, **QUICK})
        for number, (key, value) in enumerate(records):
            where: dict[str, Any] = {"partition": partitions[number]} if partitions else {}
            producer.produce(topic, value=value.encode(), key=key.encode() if key is not None else None, **where)
        if left := producer.flush(15):
            raise KitError(f"{left} records were not taken.", next_step="`lab` shows how the broker is")

    def read(self, topic: str) -> list[Record]:
        """Return every record of a topic, in each partition in its order."""
        found = broker.read_all(self.kafka, [topic])
        return sorted(found, key=lambda record: (record.partition, record.offset))

    @contextmanager
    def workers(self, topic: str | list[str], number: int, handle: Callable[[Record], object]) -> Iterator[Workers]:
        """Let workers read a topic (or several) from its beginning, as one new group, until the block ends.

        Parameters
        ----------
        topic : str or list of str
            What they read.
        number : int
            How many they are.
        handle : callable
            What each does with a record.
        """
        if not 0 < number <= MOST_WORKERS:
            raise KitError(f"{number} workers are none, or too many.", next_step=f"1 to {MOST_WORKERS} can be had")
        team = Workers(self.kafka, [topic] if isinstance(topic, str) else topic, self.group(), number, handle)
        try:
            team.gather()
            yield team
        finally:
            team.go_home()

    def remove(self, topic: str) -> None:
        """Take one practice topic away; one that is gone already is no trouble."""
        practice.delete_topics(self.kafka, [topic])

    def clean(self) -> int:
        """Take every practice topic and every practice group that nobody is in away; return how many topics it were."""
        return practice.delete_all(self.kafka)


class Workers:
    """Consumers of one group, each in a thread of its own. They begin once all have joined and share the partitions.

    Attributes
    ----------
    handled : list of Handled
        What they have done, in the order in which it was done.
    """

    def __init__(
        self, kafka: str, topics: list[str], group: str, number: int, handle: Callable[[Record], object]
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._group = group
        self._handle = handle
        self._begin, self._end = threading.Event(), threading.Event()
        self._first = 0.0
        self.handled: list[Handled] = []
        self.assigned: list[list[int] | None] = [None] * number  # None: not in the group
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(number)]

    def gather(self) -> None:
        """Have everybody join, and wait until each partition has exactly one owner."""
        every = sorted(p.partition for p in broker.partitions(self._kafka, self._topics))

        def is_settled() -> bool:
            shares = list(self.assigned)
            return None not in shares and sorted(number for share in shares for number in share or ()) == every

        for thread in self._threads:
            thread.start()
        wait_until(is_settled, 20, what=f"{len(self._threads)} consumers to share {len(every)} partitions")

    def finish(self, records: int, timeout: float = 60) -> pd.DataFrame:
        """Let them begin, wait until they have handled so many records, and return who did how many."""
        self._first = time.monotonic()
        self._begin.set()
        wait_until(lambda: len(self.handled) >= records, timeout, what=f"{records} records to be handled")
        return self.table()

    def table(self) -> pd.DataFrame:
        """Return for each worker its partitions, how many records it handled, and when it had done its last."""
        rows = []
        for number, share in enumerate(self.assigned):
            mine = [one for one in self.handled if one.worker == number]
            rows.append((share or [], len(mine), round(max((one.ended for one in mine), default=0.0), 1)))
        rows.sort(key=lambda row: (not row[0], row[0]))  # who comes to which share is left to chance
        table = pd.DataFrame(rows, columns=["partitions", "records", "seconds"])
        table.index = pd.Index(range(1, len(rows) + 1), name="worker")
        return table

    @property
    def seconds(self) -> float:
        """How long it took, from the beginning to the last record."""
        return max((one.ended for one in self.handled), default=0.0)

    def go_home(self) -> None:
        """Have everybody leave the group."""
        self._end.set()
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
                "fetch.wait.max.ms": 50,
                **QUICK,
            },
            logger=broker.quiet,
        )

        def on_assign(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            consumer.assign(partitions)
            # A partition that was taken away and comes back would still be paused.
            (consumer.resume if self._begin.is_set() else consumer.pause)(partitions)
            self.assigned[number] = sorted(p.partition for p in partitions)

        def on_revoke(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            self.assigned[number] = None

        consumer.subscribe(self._topics, on_assign=on_assign, on_revoke=on_revoke)
        waiting = True
        try:
            while not self._end.is_set():
                if waiting and self._begin.is_set():
                    consumer.resume(consumer.assignment())
                    waiting = False
                record = broker.poll(consumer, 0.05)
                if record is not None:
                    self._do(number, record)
        finally:
            had = self.assigned[number]
            consumer.close()
            self.assigned[number] = had  # for whoever asks afterwards who had what

    def _do(self, number: int, record: Record) -> None:
        began = time.monotonic() - self._first
        self._handle(record)
        self.handled.append(Handled(number, record, began, time.monotonic() - self._first))
