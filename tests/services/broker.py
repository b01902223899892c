"""The test in the place of relay, broker and consumer loops: what they may do to records, on their worst days too."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from random import Random
from uuid import UUID

from sqlalchemy import select

from labservices.shared.handling import Outcome
from labservices.shared.ids import uuid7
from labservices.shared.record import Record
from tests.services.faults import Faults, Killed, heal
from tests.services.world import World, changed, record_of_row

PARTITIONS = 2
REPLAYS = 5
"""So often dead letters are sent back when everything has healed."""

Lane = tuple[str, str, int]
"""Who reads which partition of which topic; a lane is read in its order, and the lanes in any order."""

Partitioner = Callable[[int, int], int]
"""Chooses a partition, given the number of the order (the how-many-eth that was heard of) and of the record."""


def by_order(order: int, record: int) -> int:
    """Put all records of an order into one partition.

    Kafka takes a hash of the key. The ids of orders differ from run to run, so a hash would not let a run be repeated.
    """
    return order % PARTITIONS


class Broker:
    """Brings what the services say to those who read it: at least once, and in the order of each partition.

    Attributes
    ----------
    records
        All records, by topic, in the order in which they were written.
    arrived
        The ids of the events of each order in each service, in the order in which they came there first.
    """

    def __init__(self, world: World, faults: Faults, *, partition: Partitioner = by_order) -> None:
        self.records: list[Record] = []
        self.arrived: dict[tuple[str, UUID], list[UUID]] = defaultdict(list)
        self._world = world
        self._faults = faults
        self._partition = partition
        self._log: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self._orders: list[str | None] = []
        self._relayed = {name: UUID(int=0) for name in world.parties}
        self._seen: Counter[str] = Counter()
        self._committed: dict[Lane, int] = defaultdict(int)
        self._lanes = [
            (reader, topic, number)
            for reader, party in world.parties.items()
            for topic in party.service.topics
            for number in range(PARTITIONS)
        ]

    # --- the relay

    def relay(self) -> None:
        """Write a record of each outbox row that there is none of."""
        for name, party in self._world.parties.items():
            if self._seen[name] == self._faults.commits[name]:
                continue
            self._seen[name] = self._faults.commits[name]
            outbox = party.service.tables.tables["outbox"]
            query = select(outbox).where(outbox.c.id > self._relayed[name]).order_by(outbox.c.id)
            with party.runtime.database.engine.connect() as connection:
                for row in connection.execute(query):
                    self._append(record_of_row(row))
                    self._relayed[name] = row.id

    def write_again(self, number: int) -> None:
        """Write a record once more, as a relay does that has crashed before it noted how far it was."""
        self._append(self._record(number))

    def write_under_new_id(self, number: int) -> None:
        """Write a record once more as if it were another event."""
        record = self._record(number)
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
        """List the lanes in which there is something to read."""
        self.relay()
        return [lane for lane in self._lanes if self._committed[lane] < len(self._log[lane[1:]])]

    def next_order(self, lane: Lane) -> UUID:
        """Tell which order the next record of a lane is about."""
        return UUID(self._log[lane[1:]][self._committed[lane]].key)

    def deliver(self, lane: Lane, *, dies_at: int | None = None) -> None:
        """Hand a reader its next record, and commit its offset.

        A process that dies meanwhile commits none: at the latest it dies between the database's commit and this one.
        """
        self._hand_over(lane[0], self._log[lane[1:]][self._committed[lane]], dies_at)
        if dies_at is None:
            self._committed[lane] += 1

    def deliver_again(self, number: int) -> None:
        """Hand a reader a record once more that it has read before, if there is one."""
        read = [(lane, offset) for lane in self._lanes for offset in range(self._committed[lane])]
        if read:
            lane, offset = read[number % len(read)]
            self._hand_over(lane[0], self._log[lane[1:]][offset])

    def rewind(self, reader: str, topic: str) -> None:
        """Let a reader begin a topic anew."""
        for lane in self._lanes:
            if lane[:2] == (reader, topic):
                self._committed[lane] = 0

    def try_parked(self, reader: str, *, dies_at: int | None = None) -> Outcome | None:
        """Let a service try the next of its parked records."""
        try:
            with self._faults.dying(dies_at):
                return self._world.parties[reader].runtime.handling.try_parked()
        except Killed:
            return None

    def settle(self, luck: Random) -> Iterator[None]:
        """Heal everything and bring every record everywhere; stop after each step, for someone to look.

        Some readers are slow in some topics, as luck has it. Dead letters are sent back a few times only: what is dead
        then stays dead.
        """
        self._faults.poisoned.clear()
        pace = {lane: luck.choice([1, 5, 25]) for lane in self._lanes}
        for _ in range(REPLAYS):
            while waiting := self.waiting():
                self.deliver(*luck.choices(waiting, [pace[lane] for lane in waiting]))
                yield
            for reader, party in self._world.parties.items():
                heal(party)
                while self.try_parked(reader):
                    yield

    def _hand_over(self, reader: str, record: Record, dies_at: int | None = None) -> None:
        try:
            with self._faults.dying(dies_at):
                outcome = self._world.parties[reader].runtime.handling.handle(record)
        except Killed:
            return
        if outcome in (Outcome.HANDLED, Outcome.BEHIND, Outcome.FAILED):
            order, event_id = UUID(record.key), UUID(record.headers["ce_id"])
            if event_id not in self.arrived[reader, order]:
                self.arrived[reader, order].append(event_id)
