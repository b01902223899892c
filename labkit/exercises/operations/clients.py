"""Two exercises of notebook 12: the configuration of a producer and of a consumer group, as confluent-kafka takes them.

Source of the settings: librdkafka, "CONFIGURATION.md".
"""

from __future__ import annotations

import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from labkit.client.practice import Practice
from labkit.errors import KitError
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labstack.clients import broker
from labstack.clients.broker import FAST_RECONNECT
from labstack.waiting import poll_until

CUSTOMERS = ("ada", "grace", "barbara", "edsger", "leslie", "frances", "hedy", "radia")
TOPICS = 2
PARTITIONS = 4
MEMBERS = 6


def crc32_of(key: str) -> int:
    """Return the partition that librdkafka chooses for a key by default."""
    return zlib.crc32(key.encode()) % PARTITIONS


class PracticeExercise(Exercise):
    """An exercise with a practice topic, which its cleanup deletes."""

    def is_gone(self, bench: Bench) -> Verdict | None:
        """Return a verdict if the setup's topic was deleted meanwhile, by a reset or another cleanup."""
        if broker.partitions(bench.lab.endpoints.kafka, [bench.given.topic]):
            return None
        return untouched(f'The topic of this exercise no longer exists. Run tasks.setup("{self.name}") again.')

    def cleanup(self, bench: Bench) -> str:
        Practice(bench.lab).remove(bench.given.topic)
        return "The topic of this exercise is deleted."


def settings(answer: Any) -> dict[str, Any] | None:
    """Return an answer as settings of a client; None if it is not a dict."""
    return {str(name): value for name, value in answer.items()} if isinstance(answer, Mapping) else None


class TwoProducers(PracticeExercise):
    """All producers must hash keys alike."""

    name = "two-producers"
    title = "A second program breaks the order of keys. Write the configuration that its Producer needs"
    kind = "config"
    level = 2
    minutes = 6
    hints = (
        "Practice(lab).read(given.topic) shows in which partition each program has put a key. The first one hashes as "
        "Debezium does, and you know its hash from above.",
        "librdkafka's setting `partitioner` (CONFIGURATION.md lists its values). Which value uses the same hash, and "
        "still spreads records without a key?",
        'It begins:\n    answer = {"partitioner": ...',
    )
    answer = 'answer = {"partitioner": "murmur2_random"}'
    why = (
        "librdkafka, and so Confluent's clients for Python, Go and C#, hashes with crc32 by default "
        "(consistent_random); Kafka's own Java client uses murmur2. Both keep a key in one partition, but not in the "
        "same one. Two programs that write the same keys must use the same partitioner. The lab's services publish "
        "dead letters themselves, so they are configured with murmur2_random, too."
    )
    mistakes = (
        Wrong("answer = {}", "crc32"),
        Wrong('answer = {"partitioner": "consistent"}', "crc32"),
        Wrong('answer = {"partitioner": "random"}', "ignores the key"),
        Wrong('answer = {"partitioner": "fnv1a_random"}', "a different hash"),
        Wrong('answer = {"partitioner": "murmur3"}', "does not start"),
        Wrong('answer = {"partitioner.class": "murmur2_random"}', "does not start"),
        Wrong('answer = "murmur2_random"', "dict"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        practice = Practice(bench.lab)
        topic = practice.topic(PARTITIONS)
        practice.write(topic, [(key, "written by the first") for key in CUSTOMERS])
        practice.write(topic, [(key, "written by the second") for key in CUSTOMERS], partitioner="consistent_random")
        return "Both programs have written a record for each of eight customers.", {"topic": topic}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        config = settings(answer)
        if config is None:
            return wrong("The answer is a dict, as confluent_kafka.Producer takes it: {'name': value}.")
        if gone := self.is_gone(bench):
            return gone
        mark = f"tried {uuid.uuid4().hex[:6]}".encode()
        kafka = bench.lab.endpoints.kafka
        try:
            producer = Producer(config | {"bootstrap.servers": kafka, **FAST_RECONNECT})
        except (KafkaException, TypeError, ValueError) as error:
            return wrong(f"The program does not start with it: {reason(error)}")
        for key in CUSTOMERS:
            for _ in range(3):
                producer.produce(bench.given.topic, key=key.encode(), value=mark)
        if unsent := producer.flush(15):
            raise KitError(f"{unsent} records were not taken.", next_step="`lab` shows how the broker is")
        records = Practice(bench.lab).read(bench.given.topic)
        first = {r.key: r.partition for r in records if r.value == b"written by the first"}
        tried: dict[str, set[int]] = {}
        for record in records:
            if record.value == mark:
                tried.setdefault(record.key or "", set()).add(record.partition)
        return self._verdict(first, tried)

    def _verdict(self, first: dict[str | None, int], tried: dict[str, set[int]]) -> Verdict:
        strays = sum(where != {first[key]} for key, where in tried.items())
        if not strays:
            return right(f"{len(tried)} keys, three records each, all in the partitions that the first program uses.")
        if any(len(where) > 1 for where in tried.values()):
            return wrong(
                "Even the records of one key are spread over partitions: it ignores the key, and a consumer could "
                "handle a customer's cancellation before her order."
            )
        if all(where == {crc32_of(key)} for key, where in tried.items()):
            return wrong(
                f"That is crc32, as now: {strays} of 8 customers have records in two partitions, read by two "
                "consumers in no order. Which hash does Debezium use?"
            )
        return wrong(
            f"Each key stays in one partition, but it is a different hash than the first program's: {strays} customers "
            "have records in two partitions."
        )


class NoIdleMember(PracticeExercise):
    """The assignor decides who gets which partitions, and who has to stop when a member joins."""

    name = "no-idle-member"
    title = "Configure a group of six for two topics: no member is idle, and none has to stop when a seventh joins"
    kind = "config"
    level = 3
    minutes = 6
    hints = (
        "The default assignor is `range`: it assigns each topic separately, so the fifth and the sixth member get "
        "nothing of either. And it is eager: at each rebalance every member gives all its partitions back.",
        "librdkafka's setting partition.assignment.strategy has three values (CONFIGURATION.md). Or let the broker "
        "assign: group.protocol. Both settings of a consumer, in a dict.",
        'It begins:\n    answer = {"partition.assignment.strategy": ...',
    )
    answer = 'answer = {"partition.assignment.strategy": "cooperative-sticky"}'
    why = (
        "cooperative-sticky assigns the partitions of all topics together, and at a rebalance only those partitions "
        "move that have to; all others are read on. Range keeps equal partition numbers of two topics together, which "
        "a join of two topics needs. With group.protocol=consumer (KIP-848) the broker assigns in the same way, "
        "without a pause for the whole group."
    )
    mistakes = (
        Wrong("answer = {}", "idle"),
        Wrong('answer = {"partition.assignment.strategy": "range"}', "idle"),
        Wrong('answer = {"partition.assignment.strategy": "roundrobin"}', "gave back"),
        Wrong('answer = {"partition.assignment.strategy": "sticky"}', "does not start"),
        Wrong('answer = "cooperative-sticky"', "dict"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        practice = Practice(bench.lab)
        one, other = (practice.topic(PARTITIONS) for _ in range(TOPICS))
        return "Two topics of four partitions each exist. The check starts the members.", {"topic": one, "other": other}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        config = settings(answer)
        if config is None:
            return wrong("The answer is a dict, as confluent_kafka.Consumer takes it: {'name': value}.")
        if gone := self.is_gone(bench):
            return gone
        try:
            with group(bench, config) as members:
                return self._verdict(members)
        except (KafkaException, TypeError, ValueError) as error:
            return wrong(f"A consumer does not start with it: {reason(error)}")

    def _verdict(self, members: Members) -> Verdict:
        members.add(MEMBERS)
        if not members.share_all(MEMBERS):
            return wrong(f"After {PATIENCE} s the members have not shared the partitions: {members.shares}.")
        if idle := sum(not share for share in members.shares):
            return wrong(
                f"Six joined, and {idle} are idle, although there are eight partitions: you would pay for two "
                "machines that do nothing. Which assignor looks at both topics together?"
            )
        members.revoked = 0
        members.add(1)
        if not members.share_all(MEMBERS + 1):
            return wrong(f"After {PATIENCE} s the seventh member has no part: {members.shares}.")
        if members.revoked > len(members.every) // 2:
            return wrong(
                f"No member is idle. But when the seventh joined, the others gave back {members.revoked} of "
                f"{len(members.every)} partitions, and handled nothing until the group had assigned them again. With "
                "a deployment of six members that happens six times."
            )
        return right(f"No member is idle, and when a seventh joined, only {members.revoked} of 8 partitions moved.")

    def cleanup(self, bench: Bench) -> str:
        for topic in (bench.given.topic, bench.given.other):
            Practice(bench.lab).remove(topic)
        return "The topics of this exercise are deleted."


PATIENCE = 40


class Members:
    """Consumers of one new group with the learner's settings, all polled by one thread.

    Attributes
    ----------
    every : set of tuple
        The topics' partitions.
    revoked : int
        The number of partitions that members had to give back.
    """

    def __init__(self, bench: Bench, config: Mapping[str, Any]) -> None:
        kafka, self._topics = bench.lab.endpoints.kafka, [bench.given.topic, bench.given.other]
        own = {"bootstrap.servers": kafka, "group.id": Practice(bench.lab).group(), "fetch.wait.max.ms": 50}
        by_broker = config.get("group.protocol") == "consumer"
        classic = {} if by_broker else {"heartbeat.interval.ms": 200}
        # With the new protocol a member learns of a change with its next heartbeat, and the broker sets their interval.
        self._quiet = 12.0 if by_broker else 2.0
        self._config = classic | dict(config) | own | FAST_RECONNECT
        self.every = {(one.topic, one.partition) for one in broker.partitions(kafka, self._topics)}
        self.consumers: list[Consumer] = []
        self.revoked = 0

    def add(self, number: int) -> None:
        """Let more members join."""

        def on_revoke(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            self.revoked += len(partitions)

        for _ in range(number):
            consumer = Consumer(self._config, logger=broker.silent_logger)
            self.consumers.append(consumer)
            consumer.subscribe(self._topics, on_revoke=on_revoke)

    @property
    def shares(self) -> list[int]:
        """The number of partitions of each member."""
        return [len(consumer.assignment()) for consumer in self.consumers]

    def share_all(self, number: int) -> bool:
        """Poll until each partition has a member and the assignment no longer changes; return whether it does.

        An assignment that leaves a member idle counts only after some seconds, since the others may still join.
        """
        before, since = self.shares, time.monotonic()

        def is_steady() -> bool:
            nonlocal before, since
            for consumer in self.consumers:
                consumer.poll(0.01)
            if (now := self.shares) != before:
                before, since = now, time.monotonic()
            is_complete = sum(now) == len(self.every) and len(now) == number
            return is_complete and time.monotonic() - since > (self._quiet if 0 in now else 0.5)

        return bool(poll_until(is_steady, PATIENCE, interval=0.02))

    def close(self) -> None:
        """Let all members leave."""
        for consumer in self.consumers:
            broker.leave(consumer)


@contextmanager
def group(bench: Bench, config: Mapping[str, Any]) -> Iterator[Members]:
    """Yield a group without members; close its members afterwards."""
    members = Members(bench, config)
    try:
        yield members
    finally:
        members.close()


def reason(error: Exception) -> str:
    """Return librdkafka's reason for the rejection of a setting."""
    return str(error.args[0].str() if isinstance(error, KafkaException) else error)
