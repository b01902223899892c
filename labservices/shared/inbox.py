"""The inbox: a service takes each event once.

Kafka brings a record at least once: the relay may write it again after a crash, and a consumer that dies between its
database commit and its offset commit is given the record again. So the first thing that a handler's transaction does is
to write the event's id down. If the id is there already, the event has been handled, and there is nothing to do. Since
the id is written in the same transaction as the effect, there is never one without the other.
"""

from enum import Enum, auto

from sqlalchemy import BigInteger, Column, Connection, DateTime, Integer, MetaData, Table, Text, Uuid, func, text

from labservices.shared.record import Envelope


def inbox_table(metadata: MetaData) -> Table:
    """Describe the inbox of one service."""
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


# One statement for both questions, since nearly every event is new and has nothing parked before it.
_ADMIT = text(
    """
    INSERT INTO inbox (consumer, event_id, topic, partition, "offset", type)
    SELECT :consumer, :event_id, :topic, :partition, :offset, :type
    WHERE :is_its_turn OR NOT EXISTS (SELECT FROM parked_records WHERE key = :key)
    ON CONFLICT DO NOTHING
    """
)

_IS_THERE = text("SELECT EXISTS (SELECT FROM inbox WHERE consumer = :consumer AND event_id = :event_id)")


class Admission(Enum):
    """Whether an event may be handled now."""

    NEW = auto()
    DUPLICATE = auto()  # it was handled before
    BEHIND = auto()  # an earlier one of its order is parked


class Inbox:
    """Remembers which events one consumer has handled."""

    def __init__(self, consumer: str) -> None:
        self._consumer = consumer

    def admit(self, connection: Connection, envelope: Envelope, *, is_its_turn: bool = False) -> Admission:
        """Write a new event down, unless something of its order is parked before it.

        Two consumers that are given the same record at the same moment meet here too: the second waits until the first
        one's transaction ends, and only then learns whether the event is new.

        Parameters
        ----------
        connection
            The open transaction in which the event will be handled.
        envelope
            The event.
        is_its_turn
            Whether this is the first parked record of its order itself.
        """
        values = {
            "consumer": self._consumer,
            "event_id": envelope.event_id,
            "topic": envelope.record.topic,
            "partition": envelope.record.partition,
            "offset": envelope.record.offset,
            "type": envelope.event.type(),
            "key": envelope.record.key,
            "is_its_turn": is_its_turn,
        }
        if connection.execute(_ADMIT, values).rowcount == 1:
            return Admission.NEW
        same = {"consumer": self._consumer, "event_id": envelope.event_id}
        return Admission.DUPLICATE if connection.execute(_IS_THERE, same).scalar_one() else Admission.BEHIND
