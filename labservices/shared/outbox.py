"""The outbox: a service says something by writing a row.

A service that changed its database and then sent a Kafka record could crash between the two, and the world would
believe one thing and the database another. So it never sends. It inserts the event into its ``outbox`` table in the
same transaction as the change: both happen or neither does. Debezium reads the committed row out of PostgreSQL's
write-ahead log (through the publication and the replication slot, both named ``outbox``) and makes a record of it:

* the topic from ``aggregatetype``, the key from ``aggregateid``, the value from ``payload``,
* the CloudEvents headers, ``traceparent`` and ``causation_id`` from the columns beside them.

The record comes at least once: Debezium may read a row again after a crash. What makes this harmless is the reader's
inbox.
"""

from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import UserDefinedType

from labservices.shared.event_spans import to_outbox
from labservices.shared.events import Event
from labservices.shared.ids import uuid7
from labservices.shared.tracing import current_traceparent


class LogPosition(UserDefinedType[str]):
    """PostgreSQL's ``pg_lsn``: a place in the write-ahead log, as ``16/B374D848``."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Name the type in SQL."""
        return "pg_lsn"


def outbox_table(metadata: MetaData, service: str) -> Table:
    """Describe the outbox of one service.

    One row that the relay can't make a record of would stop everything behind it, so the CHECKs let no such row in.
    Each service says each thing once about an order: the last guard against saying it twice.
    """
    return Table(
        "outbox",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("aggregatetype", Text, CheckConstraint(f"aggregatetype = '{service}'"), nullable=False),
        Column("aggregateid", Uuid, nullable=False),
        Column("type", Text, CheckConstraint("type ~ '^[A-Za-z]{1,64}$'"), nullable=False),
        Column(
            "payload",
            JSONB,
            CheckConstraint("jsonb_typeof(payload) = 'object'"),
            CheckConstraint("octet_length(payload::text) <= 524288"),  # the broker takes 1 MiB
            nullable=False,
        ),
        Column("specversion", Text, CheckConstraint("specversion = '1.0'"), nullable=False, server_default="1.0"),
        Column("dataschema", Text, CheckConstraint(r"dataschema ~ '^urn:sagalab:[A-Za-z]+:\d+\.\d+$'"), nullable=False),
        Column("source", Text, CheckConstraint("source <> ''"), nullable=False),
        Column("traceparent", Text, CheckConstraint("traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'")),
        Column("causation_id", Uuid),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
        # Where in the write-ahead log it stands, or rather right before that: the relay is beyond it once the slot is.
        Column(
            "wal_position", LogPosition, nullable=False, server_default=func.pg_current_wal_insert_lsn(), index=True
        ),
        UniqueConstraint("aggregateid", "type"),
    )


class Outbox:
    """Writes events into the outbox of one service."""

    def __init__(self, service: str, table: Table) -> None:
        self._service = service
        self._insert = table.insert()

    def add(self, connection: Connection, event: Event, cause: UUID | None) -> UUID:
        """Say something about an order, if and when the transaction commits.

        Parameters
        ----------
        connection
            The open transaction in which the change is made that the event tells of.
        event
            What to say.
        cause
            The id of the event that led to this one, where there is one.

        Returns
        -------
        UUID
            The new event's id.
        """
        event_id = uuid7()
        with to_outbox(event, event_id):
            connection.execute(
                self._insert,
                {
                    "id": event_id,
                    "aggregatetype": self._service,
                    "aggregateid": event.order_id,
                    "type": event.type(),
                    "payload": event.model_dump(mode="json"),
                    "dataschema": event.dataschema(),
                    "source": f"urn:sagalab:{self._service}",
                    "traceparent": self.traceparent(),
                    "causation_id": cause,
                },
            )
        return event_id

    def traceparent(self) -> str | None:
        """The trace that the event belongs to: the one of what runs now."""
        return current_traceparent()
