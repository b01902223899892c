"""Requests to the Kafka broker about consumer groups: their offsets, lag and members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from labstack.clients.broker import (
    FAST_RECONNECT,
    REQUEST_TIMEOUT,
    admin,
    end_offsets,
    partitions,
    retry_transient,
    silent_logger,
    start_offsets,
    translate_errors,
)
from labstack.errors import BrokerUnavailable, LabError

ACTIVE_MEMBER_ERRORS = {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS}
"""Errors for a client that acts on behalf of a group which still has active members."""


def committed_offsets(address: str, group: str) -> dict[tuple[str, int], int]:
    """Return the offsets that a consumer group has committed, by topic and partition."""
    with _member(address, group) as consumer:
        topics = consumer.list_topics(timeout=10).topics
        all_partitions = [
            TopicPartition(name, p) for name in topics if name[:2] != "__" for p in topics[name].partitions
        ]
        found = retry_transient(lambda: consumer.committed(all_partitions, timeout=10))
    return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}


def lag(address: str, group: str, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    """Return how many records a consumer group is behind in each partition of these topics.

    A partition in which the group has committed no offset counts in full.
    """
    which = partitions(address, topics)
    ends, starts = end_offsets(address, which), start_offsets(address, which)
    committed = committed_offsets(address, group)
    return {place: max(0, end - max(committed.get(place, 0), starts[place])) for place, end in ends.items()}


def assigned(address: str, groups: Iterable[str]) -> dict[str, set[tuple[str, int]]]:
    """Return the partitions that are currently assigned to the members of each consumer group."""
    names = list(groups)
    with admin(address) as client:

        def send_request() -> dict[str, Any]:
            futures = client.describe_consumer_groups(names, request_timeout=10)
            return {group: future.result(REQUEST_TIMEOUT).members for group, future in futures.items()}

        found = retry_transient(send_request)
    return {
        group: {
            (p.topic, p.partition)
            for member in members
            for p in (member.assignment.topic_partitions if member.assignment else [])
        }
        for group, members in found.items()
    }


def commit_offsets(address: str, group: str, offsets: dict[tuple[str, int], int]) -> None:
    """Set the offsets of a group without members; a killed member still counts until its session times out.

    Raises
    ------
    BrokerUnavailable
        The broker does not answer, or the group has an active member.
    """
    wanted = [TopicPartition(topic, p, offset) for (topic, p), offset in offsets.items()]
    with _member(address, group) as consumer:
        try:
            retry_transient(lambda: consumer.commit(offsets=wanted, asynchronous=False), ACTIVE_MEMBER_ERRORS)
        except KafkaException as error:
            if error.args[0].code() not in ACTIVE_MEMBER_ERRORS:
                raise
            raise BrokerUnavailable(
                f"The consumer group {group} has active members.",
                next_step=f"stop the other consumers of {group}, such as those started with --consumer-only",
            ) from error


def delete_group(address: str, group: str) -> None:
    """Delete a consumer group with its offsets; a killed member still counts until its session times out."""
    with admin(address) as client:

        def send_request() -> None:
            client.delete_consumer_groups([group], request_timeout=10)[group].result(REQUEST_TIMEOUT)

        try:
            retry_transient(send_request, {KafkaError.NON_EMPTY_GROUP})
        except KafkaException as error:
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise


@contextmanager
def _member(address: str, group: str) -> Iterator[Consumer]:
    """Yield a consumer that acts on behalf of a group without joining it.

    The admin client could do the same, but it terminates the whole process (seen with confluent-kafka 2.16) when a
    broker that has just restarted reports that it does not know the group yet.

    Raises
    ------
    LabError
        No group can have this name: it is blank or not printable. With such a name, the Kafka client would terminate
        the whole process (an assertion in librdkafka).
    """
    if not group.strip() or not group.isprintable():
        raise LabError(f"{group[:80]!r} can't be the name of a consumer group.", next_step="pass the name of a group")
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": group, "enable.auto.commit": False, **FAST_RECONNECT},
        logger=silent_logger,
    )
    try:
        with translate_errors(address):
            yield consumer
    finally:
        consumer.close()
