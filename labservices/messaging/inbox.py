"""The inbox: a service handles each event once.

Kafka delivers a record at least once. The relay may publish it again after a crash, and a consumer that dies between
its database commit and its offset commit receives it again. So a handler's transaction first inserts the event's id
into the inbox. If the id exists already, the event has been handled, and the transaction does nothing. The id and the
effect are written in the same transaction, so one never exists without the other.
"""

from enum import Enum, auto
from uuid import UUID

from sqlalchemy import BigInteger, Column, Connection, DateTime, Integer, MetaData, Table, Text, Uuid, func, text

from labservices.record import Envelope


def inbox_table(metadata: MetaData) -> Table:
    """Define the inbox table of one service."""
    return Table(
        "inbox",
        metadata,
        Column("consumer", Text, primary_key=True),
        Column("event_id", Uuid, primary_key=True),
        Column("topic", Text, nullable=False),
        Column("partition", Integer, nullable=False),
        Column("offset", BigInteger, nullable=False),
        Column("type", Text, nullable=False),
        Column("handled_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    )


# One statement for both checks, since nearly every event is new and has no parked record before it.
_ADMIT = text(
    """
    INSERT INTO inbox (consumer, event_id, topic, partition, "offset", type)
    SELECT :consumer, :event_id, :topic, :partition, :offset, :type
    WHERE :is_first_parked OR NOT EXISTS (SELECT FROM parked_records WHERE key = :key)
    ON CONFLICT DO NOTHING
    """
)

_EXISTS = text("SELECT EXISTS (SELECT FROM inbox WHERE consumer = :consumer AND event_id = :event_id)")


_HANDLED_AFTER = text(
    """
    SELECT later.event_id
    FROM inbox AS this JOIN inbox AS later USING (consumer, topic, partition)
    WHERE consumer = :consumer AND this.event_id = :event_id AND later."offset" > this."offset"
    ORDER BY later."offset" LIMIT :number
    """
)


class Admission(Enum):
    """Whether an event may be handled now."""

    NEW = auto()
    DUPLICATE = auto()  # it was handled before
    BEHIND = auto()  # an earlier record of its order is parked


class Inbox:
    """Records which events a consumer has handled."""

    def __init__(self, consumer: str) -> None:
        self._consumer = consumer

    def admit(self, connection: Connection, envelope: Envelope, *, is_first_parked: bool = False) -> Admission:
        """Record a new event, unless an earlier record of its order is parked.

        If two consumers receive the same record at the same time, the second one's insert waits until the first one's
        transaction ends. Only then is it known whether the event is new.

        Parameters
        ----------
        connection
            The open transaction in which the event will be handled.
        envelope
            The event.
        is_first_parked
            Whether the event is itself the first parked record of its order.
        """
        values = {
            "consumer": self._consumer,
            "event_id": envelope.event_id,
            "topic": envelope.record.topic,
            "partition": envelope.record.partition,
            "offset": envelope.record.offset,
            "type": envelope.event.type(),
            "key": envelope.record.key,
            "is_first_parked": is_first_parked,
        }
        if connection.execute(_ADMIT, values).rowcount == 1:
            return Admission.NEW
        key = {"consumer": self._consumer, "event_id": envelope.event_id}
        return Admission.DUPLICATE if connection.execute(_EXISTS, key).scalar_one() else Admission.BEHIND

    def handled_after(self, connection: Connection, event_id: UUID, number: int) -> set[UUID]:
        """Return the ids of the handled events with the next higher offsets in the same partition.

        Parameters
        ----------
        connection
            An open transaction.
        event_id
            A handled event.
        number
            The maximum number of ids.
        """
        values = {"consumer": self._consumer, "event_id": event_id, "number": number}
        return set(connection.execute(_HANDLED_AFTER, values).scalars())
