"""Open transactions of other producers, which block the consumers of their partitions.

The lab itself publishes without transactions. A consumer reads only up to the first open transaction, so a producer
that neither commits nor aborts stops every consumer of that partition, until the broker aborts the transaction after
its timeout (at most ``transaction.max.timeout.ms`` in ``server.properties``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from labstack.clients.broker import FAST_RECONNECT, REQUEST_TIMEOUT, admin, messages, silent_logger
from labstack.errors import BrokerUnavailable

STATE_TOPIC = "__transaction_state"
"""Kafka's compacted topic of all transactional ids. It exists from the first transaction on."""

ONGOING = 1
"""Status of an open transaction (``TransactionState`` in Kafka's transaction coordinator)."""

LIMIT = 60.0
"""Seconds after which the broker aborts an open transaction (``transaction.max.timeout.ms``)."""

PATIENCE = 5.0
"""Seconds after which an open transaction counts as hanging. A working producer ends its transactions sooner."""


@dataclass(frozen=True)
class OpenTransaction:
    """An open transaction.

    Attributes
    ----------
    name : str
        The producer's ``transactional.id``.
    since : float
        When it began, in seconds since 1970.
    places : frozenset of (topic, partition)
        The partitions that it has written to.
    """

    name: str
    since: float
    places: frozenset[tuple[str, int]]

    @property
    def age(self) -> float:
        """The seconds since it began."""
        return max(0.0, time.time() - self.since)

    def __str__(self) -> str:
        topics = ", ".join(sorted({topic for topic, _ in self.places}))
        return f"the transaction {self.name!r}, open for {self.age:.0f} s in {topics}"


def find_open(address: str, topics: Iterable[str], older_than: float = 0) -> list[OpenTransaction]:
    """Return the open transactions that block consumers of these topics.

    Parameters
    ----------
    address : str
        Bootstrap server.
    topics : iterable of str
        The topics.
    older_than : float
        Seconds; younger transactions are left out.

    Raises
    ------
    BrokerUnavailable, RelayFailed
        The broker does not answer.
    """
    wanted = set(topics)
    with admin(address) as client:
        known = client.list_topics(timeout=10).topics
        which = [TopicPartition(name, p) for name in wanted & set(known) for p in known[name].partitions]
        if STATE_TOPIC not in known or not _are_blocked(client, which):
            return []
    # The topic is a log of changes: a later message about the same id replaces the earlier one.
    found = {m.key(): _parse(m.key(), m.value()) for m in messages(address, [STATE_TOPIC])}
    return [one for one in found.values() if one and one.age >= older_than and wanted & {t for t, _ in one.places}]


def abort(address: str, transactions: Iterable[OpenTransaction]) -> None:
    """Abort transactions. Their producers get an error at their next request.

    Raises
    ------
    BrokerUnavailable
        The broker did not abort a transaction in time.
    """
    for transaction in transactions:
        # A producer that registers an id again fences the earlier one, and the broker aborts what that one left open.
        producer = Producer(
            {"bootstrap.servers": address, "transactional.id": transaction.name, **FAST_RECONNECT},
            logger=silent_logger,
        )
        try:
            producer.init_transactions(REQUEST_TIMEOUT)
        except KafkaException as error:
            raise BrokerUnavailable(
                f"The broker did not abort {transaction}: {error}.",
                next_step="stop its producer, and run `lab reset` again",
            ) from error


def _are_blocked(client: AdminClient, which: list[TopicPartition]) -> bool:
    """Return whether a consumer of one of these partitions can't read up to its end."""
    ends = []
    for level in (IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED):
        request = dict.fromkeys(which, OffsetSpec.latest())
        futures = client.list_offsets(request, isolation_level=level, request_timeout=10)
        ends.append({(p.topic, p.partition): f.result(REQUEST_TIMEOUT).offset for p, f in futures.items()})
    return ends[0] != ends[1]


def _parse(key: object, value: object) -> OpenTransaction | None:
    """Return the transaction that a message of the state topic describes, or None if it is not open.

    The formats are ``TransactionLogKey.json`` and ``TransactionLogValue.json`` in Kafka's source. Version 1 of the
    value has the same fields as version 0, with the lengths of arrays and strings as varints, and tagged fields.
    """
    if not isinstance(key, bytes) or not isinstance(value, bytes):
        return None
    names = _Fields(key)
    if names.number(2) != 0:
        return None
    name = names.text(names.number(2))
    fields = _Fields(value)
    is_compact = fields.number(2) > 0
    fields.skip(8 + 2 + 4)  # producer id and epoch, timeout
    if fields.number(1) != ONGOING:
        return None
    places = set()
    for _ in range(fields.varint() - 1 if is_compact else fields.number(4)):
        topic = fields.text(fields.varint() - 1 if is_compact else fields.number(2))
        count = fields.varint() - 1 if is_compact else fields.number(4)
        places |= {(topic, fields.number(4)) for _ in range(count)}
        if is_compact:
            fields.skip_tagged()
    fields.skip(8)  # last update
    return OpenTransaction(name, fields.number(8) / 1000, frozenset(places))


class _Fields:
    """Reads the fields of a message in Kafka's binary format, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def skip(self, size: int) -> bytes:
        """Return the next bytes."""
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        """Return the next signed integer of `size` bytes."""
        return int.from_bytes(self.skip(size), signed=True)

    def varint(self) -> int:
        """Return the next unsigned integer of variable length: seven bits a byte, the lowest first."""
        result = shift = 0
        while True:
            byte = self.number(1)
            result |= (byte & 0x7F) << shift
            if byte >= 0:
                return result
            shift += 7

    def text(self, size: int) -> str:
        """Return the next text of `size` bytes."""
        return self.skip(size).decode(errors="replace")

    def skip_tagged(self) -> None:
        """Skip the tagged fields of a structure."""
        for _ in range(self.varint()):
            self.varint()
            self.skip(self.varint())
