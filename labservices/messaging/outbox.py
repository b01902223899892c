"""The outbox: a service publishes an event by inserting a row.

If a service changed its database and then sent a Kafka record, it could crash between the two, and the database and the
other services would disagree. So a service never sends an event itself. It inserts the event into its ``outbox`` table
in the same transaction as the change, so that both happen or neither does. Debezium reads the committed row from
PostgreSQL's write-ahead log (through the publication and the replication slot, both named ``outbox``) and publishes a
record with

* the topic from ``aggregatetype``, the key from ``aggregateid``, and the value from ``payload``,
* the CloudEvents headers, ``traceparent`` and ``causation_id`` from the other columns.

The record is delivered at least once, since Debezium may read a row again after a crash. The consumer's inbox rejects
the duplicate.
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

from labservices.events import Event
from labservices.ids import uuid7
from labservices.telemetry.event_spans import to_outbox
from labservices.telemetry.tracing import current_traceparent


class LogPosition(UserDefinedType[str]):
    """PostgreSQL's ``pg_lsn``: a position in the write-ahead log, such as ``16/B374D848``."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Return the SQL name of the type."""
        return "pg_lsn"


def outbox_table(metadata: MetaData, service: str) -> Table:
    """Define the outbox table of one service.

    A row that the relay can't convert to a record would block all later rows, so the CHECK constraints reject it. The
    unique key allows each event type once per order; it is the last guard against duplicate events.
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
            CheckConstraint("octet_length(payload::text) <= 524288"),  # the broker accepts 1 MiB
            nullable=False,
        ),
        Column("specversion", Text, CheckConstraint("specversion = '1.0'"), nullable=False, server_default="1.0"),
        Column("dataschema", Text, CheckConstraint(r"dataschema ~ '^urn:sagalab:[A-Za-z]+:\d+\.\d+$'"), nullable=False),
        Column("source", Text, CheckConstraint("source <> ''"), nullable=False),
        Column("traceparent", Text, CheckConstraint("traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'")),
        Column("causation_id", Uuid),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
        # The position in the write-ahead log right before the row: once the slot is beyond it, the relay has read the
        # row.
        Column(
            "wal_position", LogPosition, nullable=False, server_default=func.pg_current_wal_insert_lsn(), index=True
        ),
        UniqueConstraint("aggregateid", "type"),
    )


class Outbox:
    """Appends events to the outbox of one service."""

    def __init__(self, service: str, table: Table) -> None:
        self._service = service
        self._insert = table.insert()

    def add(self, connection: Connection, event: Event, cause: UUID | None) -> UUID:
        """Append an event to the outbox; it is published when the transaction commits.

        Parameters
        ----------
        connection
            The open transaction of the change that the event reports.
        event
            The event.
        cause
            The id of the event that caused this one, if any.

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
        """Return the ``traceparent`` of the event: that of the current span."""
        return current_traceparent()
