"""Requests to the Kafka broker: topics and records. A thin layer over confluent-kafka."""

from __future__ import annotations

import logging
import operator
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from labstack.config.services import TopicPlan
from labstack.errors import BrokerUnavailable, RelayFailed
from labstack.waiting import wait_until

T = TypeVar("T")

# librdkafka logs every refused connection to stderr. The callers already know, since they poll until it answers.
silent_logger = logging.getLogger("labstack.clients.broker")
silent_logger.addHandler(logging.NullHandler())
silent_logger.propagate = False


REQUEST_TIMEOUT = 15.0
"""Seconds after which a request to the broker times out."""

TRANSIENT_ERRORS = {
    KafkaError.NOT_LEADER_FOR_PARTITION,  # the topic was just created
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,  # the broker has just started
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,  # the same; the client knows the epoch, and the broker does not yet
}
"""Transient errors: a retry soon succeeds."""

FAST_RECONNECT: dict[str, Any] = {
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 200,
}


@contextmanager
def admin(address: str) -> Iterator[AdminClient]:
    """Yield an admin client for the broker at `address`; keep it open until its responses have arrived.

    Each call creates a new client, which takes some 10 ms. A client that outlived a crash of its broker may never again
    get a response about groups. A client that is garbage-collected while a response is on the way never delivers it.

    Raises
    ------
    BrokerUnavailable
        Replaces the exceptions of librdkafka.
    """
    client = AdminClient(
        {
            "bootstrap.servers": address,
            "socket.timeout.ms": 10000,
            **FAST_RECONNECT,
        },
        logger=silent_logger,
    )
    with translate_errors(address):
        yield client


@contextmanager
def admin_with_metadata(address: str) -> Iterator[AdminClient]:
    """Yield an admin client for requests that go to the leaders of partitions.

    A new client that has to look up the leaders itself misses the response about one time in twenty, and retries only
    after 3 s (librdkafka 2.16). A client that first lists all topics never misses it.
    """
    with admin(address) as client:
        client.list_topics(timeout=10)
        yield client


@contextmanager
def translate_errors(address: str) -> Iterator[None]:
    """Raise `BrokerUnavailable` in place of the errors of the Kafka client."""
    try:
        yield
    except (KafkaException, TimeoutError) as error:
        raise BrokerUnavailable(
            f"A request to the broker at {address} failed: {error}.",
            next_step="look at `lab status` and `lab logs kafka`",
        ) from error


def answers(address: str, timeout: float = 1.0) -> bool:
    """Report whether the broker answers a metadata request within `timeout` seconds."""
    host, port = address.rsplit(":", 1)
    try:
        # A client costs threads and time, so it is created only once the port accepts connections.
        socket.create_connection((host, int(port)), timeout).close()
    except OSError:
        return False
    try:
        with admin(address) as client:
            return bool(client.list_topics(timeout=timeout).brokers)
    except BrokerUnavailable:
        return False


def create_topics(address: str, plan: TopicPlan) -> None:
    """Create the topics that do not exist yet."""
    with admin(address) as client:
        existing = client.list_topics(timeout=10).topics
        missing = [name for name in plan.names if name not in existing]
        new = [NewTopic(name, plan.partitions, 1, config=plan.config.get(name, {})) for name in missing]
        for future in (client.create_topics(new, request_timeout=15) if new else {}).values():
            try:
                future.result(REQUEST_TIMEOUT)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise


def delete_topics(address: str, prefixes: Iterable[str]) -> None:
    """Delete the topics whose names start with one of these prefixes, and wait until none is left."""
    starts = tuple(prefixes)
    with admin(address) as client:

        def matching_topics() -> list[str]:
            return [name for name in client.list_topics(timeout=10).topics if name.startswith(starts)]

        found = matching_topics()
        for future in (client.delete_topics(found, request_timeout=15) if found else {}).values():
            try:
                future.result(REQUEST_TIMEOUT)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        wait_until(
            lambda: not matching_topics(),
            REQUEST_TIMEOUT,
            what="the broker to delete the topics",
            next_step="run `lab reset` again",
        )


def topic_names(address: str) -> list[str]:
    """Return the names of all topics."""
    with admin(address) as client:
        return list(client.list_topics(timeout=10).topics)


def partitions(address: str, topics: Iterable[str]) -> list[TopicPartition]:
    """Return every partition of these topics."""
    with admin(address) as client:
        known = client.list_topics(timeout=10).topics
    return [TopicPartition(topic, p) for topic in topics if topic in known for p in sorted(known[topic].partitions)]


def end_offsets(address: str, which: Iterable[TopicPartition]) -> dict[tuple[str, int], int]:
    """Return the offset of the next record in each partition."""
    return _offsets(address, which, OffsetSpec.latest())


def start_offsets(address: str, which: Iterable[TopicPartition]) -> dict[tuple[str, int], int]:
    """Return the offset of the oldest record in each partition."""
    return _offsets(address, which, OffsetSpec.earliest())


def _offsets(address: str, which: Iterable[TopicPartition], spec: OffsetSpec) -> dict[tuple[str, int], int]:
    request = dict.fromkeys(which, spec)
    with admin_with_metadata(address) as client:

        def send_request() -> dict[tuple[str, int], int]:
            futures = client.list_offsets(request, request_timeout=10)
            return {(p.topic, p.partition): future.result(REQUEST_TIMEOUT).offset for p, future in futures.items()}

        return retry_transient(send_request)


def retry_transient(send_request: Callable[[], T], also_retry: Collection[int] = ()) -> T:
    """Retry a request while the broker reports a transient error, or one of the errors in `also_retry`."""
    deadline = time.monotonic() + REQUEST_TIMEOUT
    while True:
        try:
            return send_request()
        except KafkaException as error:
            if error.args[0].code() not in {*TRANSIENT_ERRORS, *also_retry} or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def delete_records(address: str, before: dict[tuple[str, int], int]) -> None:
    """Delete the records before these offsets."""
    wanted = [TopicPartition(topic, p, offset) for (topic, p), offset in before.items()]
    with admin_with_metadata(address) as client:
        for future in client.delete_records(wanted, request_timeout=10).values():
            future.result(REQUEST_TIMEOUT)


@contextmanager
def reading(address: str, start: dict[tuple[str, int], int], *, report_end: bool = False) -> Iterator[Consumer]:
    """Yield a consumer that reads from the given offsets on. It joins no group and commits no offsets.

    With `report_end`, its poll also returns a message for the end of each partition.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "lab-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
            "enable.partition.eof": report_end,
            **FAST_RECONNECT,
        },
        logger=silent_logger,
    )
    consumer.assign([TopicPartition(topic, p, offset) for (topic, p), offset in start.items()])
    try:
        yield consumer
    finally:
        consumer.close()


def leave(consumer: Consumer, timeout: float = 5.0) -> None:
    """Close a member of a group; a client that hangs for longer than `timeout` seconds is abandoned.

    ``Consumer.close()`` has no timeout. It can block forever if another member joined or left, and this one has not
    polled since (seen with confluent-kafka 2.16).
    """
    closing = threading.Thread(target=consumer.close, daemon=True)
    closing.start()
    closing.join(timeout)


@dataclass(frozen=True)
class Record:
    """One Kafka record.

    Attributes
    ----------
    time : int
        The broker's timestamp, in milliseconds since 1970.
    headers : dict
        Header values as text; None for a header without a value.
    """

    topic: str
    partition: int
    offset: int
    time: int
    key: str | None
    headers: dict[str, str | None]
    value: bytes | None

    @property
    def topic_partition(self) -> tuple[str, int]:
        """The record's topic and partition."""
        return self.topic, self.partition

    @property
    def type(self) -> str:
        """The event's type; empty if the header is missing."""
        return self.headers.get("ce_type") or ""


def poll(consumer: Consumer, timeout: float) -> Record | None:
    """Return the next record, or None if only a transient error, or nothing, arrives within `timeout` seconds."""
    message = consumer.poll(timeout)
    return None if message is None or message.error() else record_of(message)


def record_of(message: Message) -> Record:
    """Return a message in the form that the lab uses."""
    headers = {name: value.decode(errors="replace") if value is not None else None for name, value in _headers(message)}
    key = message.key()
    return Record(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        key.decode(errors="replace") if isinstance(key, bytes) else key,
        headers,
        message.value(),
    )


# A call from C keeps the client's method from crashing the process on a header name that is not valid UTF-8 (seen with
# version 2.16).
_headers_of = operator.methodcaller("headers")


def _headers(message: Message) -> list[tuple[str, bytes | None]]:
    try:
        return list(_headers_of(message) or [])
    except (SystemError, UnicodeDecodeError):
        return []


def read_all(address: str, topics: Iterable[str], timeout: float = 10) -> list[Record]:
    """Return every record that these topics hold now, ordered by timestamp.

    Records of a transaction that is still open, and those after them in their partition, are left out: no consumer can
    read them yet.

    Parameters
    ----------
    address : str
        Bootstrap server.
    topics : iterable of str
        Topics to read.
    timeout : float
        Seconds without a record after which the read times out.

    Raises
    ------
    RelayFailed
        The read timed out before it reached the end.
    """
    records = [record_of(message) for message in messages(address, topics, timeout)]
    return sorted(records, key=lambda r: (r.time, r.topic, r.partition, r.offset))


def messages(
    address: str, topics: Iterable[str], timeout: float = 10, *, latest: int | None = None
) -> Iterator[Message]:
    """Yield the messages that these topics hold now, as the client delivers them; see `read_all`.

    With `latest`, yield only those at the last `latest` offsets of each partition. A partition's end is a position, not
    its last message: the last offsets may belong to the markers that end a transaction, which the client never
    delivers.
    """
    which = partitions(address, topics)
    starts, ends = start_offsets(address, which), end_offsets(address, which)
    if latest is not None:
        starts = {key: max(start, ends[key] - latest) for key, start in starts.items()}
    remaining = {key: end for key, end in ends.items() if end > starts[key]}
    deadline = time.monotonic() + timeout
    with reading(address, {key: starts[key] for key in remaining}, report_end=True) as consumer:
        while remaining:
            message = consumer.poll(max(0.0, deadline - time.monotonic()))
            if message is not None and _is_end(message):
                remaining.pop(_place(message), None)
            elif message is not None and not message.error():
                deadline = time.monotonic() + timeout
                offset, end = message.offset() or 0, remaining.get(_place(message), 0)
                if offset < end:
                    yield message
                if offset + 1 >= end:
                    remaining.pop(_place(message), None)
            elif time.monotonic() >= deadline:
                raise RelayFailed(
                    f"The broker sent no more records of {', '.join(sorted({t for t, _ in remaining}))} "
                    f"for {timeout:.0f} s.",
                    next_step="look at `lab status` and `lab logs kafka`",
                )


def _is_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def _place(message: Message) -> tuple[str, int]:
    return message.topic() or "", message.partition() or 0
