"""The inbox: a service takes each event once.

Kafka brings a record at least once: the relay may write it again after a crash, and a consumer that dies between its
database commit and its offset commit is given the record again. So the first thing that a handler's transaction does is
to write the event's id down. If the id is there already, the event has been handled, and there is nothing to do. Since
the id is written in the same transaction as the effect, there is never one without the other.
"""

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


_TAKE = text(
    """
    INSERT INTO inbox (consumer, event_id, topic, partition, "offset", type)
    VALUES (:consumer, :event_id, :topic, :partition, :offset, :type)
    ON CONFLICT DO NOTHING
    """
)


class Inbox:
    """Remembers which events one consumer has handled."""

    def __init__(self, consumer: str) -> None:
        self._consumer = consumer

    def first_time(self, connection: Connection, envelope: Envelope) -> bool:
        """Write the event down; answer False if it stands there already.

        Two consumers that are given the same record at the same moment meet here too: the second waits until the first
        one's transaction ends, and only then learns whether the event is new.
        """
        inserted = connection.execute(
            _TAKE,
            {
                "consumer": self._consumer,
                "event_id": envelope.event_id,
                "topic": envelope.record.topic,
                "partition": envelope.record.partition,
                "offset": envelope.record.offset,
                "type": envelope.event.type(),
            },
        )
        return inserted.rowcount == 1
