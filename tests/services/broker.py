"""A model of relay, broker and consumer loops, which treats records like the real ones, including failures."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from uuid import UUID

from sqlalchemy import select

from labservices.ids import uuid7
from labservices.messaging.handling import Outcome
from labservices.record import Record
from tests.services.faults import Faults, Killed, replay_all_dead_letters
from tests.services.world import World, changed, record_of_row

PARTITIONS = 2
REPLAYS = 5
"""The number of times that `settle` replays the dead letters."""

STEPS = 10_000
"""The number of steps of `settle` after which it fails, so that a defect can't make it run without end."""

Lane = tuple[str, str, int]
"""A consumer, a topic and a partition. Each lane is consumed in order, and the lanes in any order."""

Partitioner = Callable[[int, int], int]
"""Returns the partition for the index of the order (in order of first appearance) and the index of the record."""


def by_order(order: int, record: int) -> int:
    """Put all records of an order into one partition.

    Kafka hashes the key. The ids of orders differ between runs, so with a hash a run would not be reproducible.
    """
    return order % PARTITIONS


class Broker:
    """Delivers the events of the services to their consumers, at least once and in the order of each partition.

    Attributes
    ----------
    records
        All records of all topics, in the order in which they were written.
    arrived
        The ids of the events for each service and order, in the order of their first arrival.
    copied
        The orders of which a record was written again under another event id.
    """

    def __init__(self, world: World, faults: Faults, *, partition: Partitioner = by_order) -> None:
        self.records: list[Record] = []
        self.arrived: dict[tuple[str, UUID], list[UUID]] = defaultdict(list)
        self.copied: set[str] = set()
        self._world = world
        self._faults = faults
        self._partition = partition
        self._log: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self._orders: list[str | None] = []
        self._relayed = {name: UUID(int=0) for name in world.harnesses}
        self._seen: Counter[str] = Counter()
        self._committed: dict[Lane, int] = defaultdict(int)
        self._lanes = [
            (reader, topic, number)
            for reader, harness in world.harnesses.items()
            for topic in harness.service.topics
            for number in range(PARTITIONS)
        ]

    # --- the relay

    def relay(self) -> None:
        """Write a record for each outbox row that has none."""
        for name, harness in self._world.harnesses.items():
            if self._seen[name] == self._faults.commits[name]:
                continue
            self._seen[name] = self._faults.commits[name]
            outbox = harness.service.tables.tables["outbox"]
            query = select(outbox).where(outbox.c.id > self._relayed[name]).order_by(outbox.c.id)
            with harness.runtime.database.engine.connect() as connection:
                for row in connection.execute(query):
                    self._append(record_of_row(row))
                    self._relayed[name] = row.id

    def write_again(self, number: int) -> None:
        """Write a record again, like a relay that crashes before it commits its position."""
        self._append(self._record(number))

    def write_under_new_id(self, number: int) -> None:
        """Write a record again under another event id."""
        record = self._record(number)
        self.copied.add(record.key or "")
        self._append(changed(record, headers={**record.headers, "ce_id": str(uuid7())}))

    def _record(self, number: int) -> Record:
        self.relay()
        return self.records[number % len(self.records)]

    def _append(self, record: Record) -> None:
        if record.key not in self._orders:
            self._orders.append(record.key)
        number = self._partition(self._orders.index(record.key), len(self.records))
        log = self._log[record.topic, number]
        log.append(changed(record, partition=number, offset=len(log)))
        self.records.append(log[-1])

    # --- the consumers

    def waiting(self) -> list[Lane]:
        """Return the lanes that have a record to deliver."""
        self.relay()
        return [lane for lane in self._lanes if self._committed[lane] < len(self._log[lane[1:]])]

    def next_order(self, lane: Lane) -> UUID:
        """Return the order of a lane's next record."""
        return UUID(self._log[lane[1:]][self._committed[lane]].key)

    def deliver(self, lane: Lane, *, crash_at: int | None = None) -> None:
        """Deliver the next record of a lane to its consumer, and commit the offset.

        A process that dies meanwhile commits no offset: it dies before the offset's commit, at the latest between the
        database's commit and that one.
        """
        self._deliver_record(lane[0], self._log[lane[1:]][self._committed[lane]], crash_at)
        if crash_at is None:
            self._committed[lane] += 1

    def deliver_again(self, number: int) -> None:
        """Deliver again a record that its consumer has already read, if there is one."""
        read = [(lane, offset) for lane in self._lanes for offset in range(self._committed[lane])]
        if read:
            lane, offset = read[number % len(read)]
            self._deliver_record(lane[0], self._log[lane[1:]][offset])

    def rewind(self, reader: str, topic: str) -> None:
        """Reset a consumer's offsets of a topic to zero."""
        for lane in self._lanes:
            if lane[:2] == (reader, topic):
                self._committed[lane] = 0

    def try_parked(self, reader: str, *, crash_at: int | None = None) -> Outcome | None:
        """Let a service retry its next parked record."""
        try:
            with self._faults.crashing(crash_at):
                return self._world.harnesses[reader].runtime.handling.try_parked()
        except Killed:
            return None

    def settle(self, rng: Random) -> Iterator[None]:
        """Remove the faults and deliver every record, yielding after each step so that the caller can check a snapshot.

        The random generator makes some consumers slow in some topics. Dead letters are replayed a limited number of
        times; a record that is dead after that stays dead.
        """
        self._faults.poisoned.clear()
        pace = {lane: rng.choice([1, 5, 25]) for lane in self._lanes}
        limit = count(1)
        for _ in range(REPLAYS):
            while waiting := self.waiting():
                self.deliver(*rng.choices(waiting, [pace[lane] for lane in waiting]))
                assert next(limit) < STEPS, "records are published without end"
                yield
            for reader, harness in self._world.harnesses.items():
                replay_all_dead_letters(harness)
                while self.try_parked(reader):
                    assert next(limit) < STEPS, "records are retried without end"
                    yield

    def _deliver_record(self, reader: str, record: Record, crash_at: int | None = None) -> None:
        try:
            with self._faults.crashing(crash_at):
                outcome = self._world.harnesses[reader].runtime.handling.handle(record)
        except Killed:
            return
        if outcome in (Outcome.HANDLED, Outcome.BEHIND, Outcome.FAILED):
            order, event_id = UUID(record.key), UUID(record.headers["ce_id"])
            if event_id not in self.arrived[reader, order]:
                self.arrived[reader, order].append(event_id)
