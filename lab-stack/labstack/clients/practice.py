"""Practice topics and consumer groups, which learners create on the lab's broker; a prefix marks them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from concurrent.futures import Future

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException
from confluent_kafka.admin import NewPartitions, NewTopic

from labstack.clients import broker
from labstack.errors import BrokerUnavailable, LabError
from labstack.waiting import poll_until

PREFIX = "practice-"

IGNORED_ERRORS = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.GROUP_ID_NOT_FOUND,
    KafkaError.NON_EMPTY_GROUP,  # it still has members; the next deletion removes it
}
"""Errors of a deletion that need no further action."""


def new_name() -> str:
    """Return a new random name."""
    return PREFIX + secrets.token_hex(3)


def make_topic(address: str, partitions: int, name: str = "", settings: Mapping[str, str] | None = None) -> str:
    """Create a topic, and return its name (default: a new one) once every partition has a leader.

    The settings are the topic's own, such as ``max.message.bytes``.
    """
    name = name or new_name()
    topic = NewTopic(name, partitions, 1, config=dict(settings or {}))
    with broker.admin(address) as client:
        client.create_topics([topic], request_timeout=15)[name].result(broker.REQUEST_TIMEOUT)
    _await_partitions(address, name, partitions)
    return name


def add_partitions(address: str, topic: str, total: int) -> None:
    """Increase the number of a topic's partitions to `total`.

    Raises
    ------
    BrokerUnavailable
        The broker rejects the request: the topic has as many partitions already, or does not exist.
    """
    with broker.admin(address) as client:
        client.create_partitions([NewPartitions(topic, total)], request_timeout=15)[topic].result(
            broker.REQUEST_TIMEOUT
        )
    _await_partitions(address, topic, total)


def _await_partitions(address: str, topic: str, partitions: int) -> None:
    """Wait until the broker's metadata lists all partitions with their leaders."""

    def have_leaders() -> bool:
        with broker.admin(address) as client:
            known = client.list_topics(topic, timeout=10).topics[topic]
        leaders = [info.leader for info in known.partitions.values()]
        return known.error is None and len(leaders) == partitions and -1 not in leaders

    if not poll_until(have_leaders, broker.REQUEST_TIMEOUT):
        raise BrokerUnavailable(
            f"The topic {topic} was not ready within {broker.REQUEST_TIMEOUT:.0f} s.",
            next_step="look at `lab logs kafka`",
        )


def delete_topics(address: str, names: list[str]) -> None:
    """Delete practice topics, and wait until the broker's metadata do not list them.

    Raises
    ------
    BrokerUnavailable
        The broker still lists a topic when `broker.REQUEST_TIMEOUT` is over.
    LabError
        A name is not the name of a practice topic.
    """
    if other_topics := [name for name in names if not name.startswith(PREFIX)]:
        raise LabError(
            f"{', '.join(other_topics)[:60]!r} is not a practice topic.",
            next_step=f"only topics of `practice.topic()` can be deleted; their names start with {PREFIX}",
        )
    with broker.admin(address) as client:
        _await(client.delete_topics(names, request_timeout=15) if names else {})
        if not poll_until(lambda: not set(names) & set(client.list_topics(timeout=10).topics), broker.REQUEST_TIMEOUT):
            raise BrokerUnavailable(
                f"The broker still lists a deleted topic after {broker.REQUEST_TIMEOUT:.0f} s.",
                next_step="look at `lab logs kafka`",
            )


def delete_all(address: str) -> int:
    """Delete every practice topic and every empty practice group; return the number of topics."""
    with broker.admin(address) as client:
        topics = [name for name in client.list_topics(timeout=10).topics if name.startswith(PREFIX)]
        empty = client.list_consumer_groups(states={ConsumerGroupState.EMPTY}, request_timeout=10)
        groups = [g.group_id for g in empty.result(broker.REQUEST_TIMEOUT).valid if g.group_id.startswith(PREFIX)]
        _await(client.delete_consumer_groups(groups, request_timeout=10) if groups else {})
    delete_topics(address, topics)
    return len(topics)


def _await(deletions: dict[str, Future[None]]) -> None:
    for future in deletions.values():
        try:
            future.result(broker.REQUEST_TIMEOUT)
        except KafkaException as error:
            if error.args[0].code() not in IGNORED_ERRORS:
                raise
