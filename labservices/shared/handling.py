"""How an event is handled: one event, one transaction.

This is where outbox and inbox meet. In one database transaction,

1. the inbox writes the event's id down, or stops if it is there,
2. the handler changes the service's own state, and
3. the outbox takes what the service has to say about it.

After the commit all three stand; after a crash at any moment before it, none. Kafka's offset is committed later (see
``consumer.py``), so the event comes again if the process dies in between, and then the inbox stops it.
"""

from enum import StrEnum

from opentelemetry.trace import SpanKind

from labservices.shared import metrics
from labservices.shared.database import Database, DatabaseAway
from labservices.shared.inbox import Inbox
from labservices.shared.record import Envelope, Record, event_type, open_record
from labservices.shared.service import Handler, Service
from labservices.shared.tracing import span


class Outcome(StrEnum):
    """What became of a record."""

    HANDLED = "handled"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"


class EventHandling:
    """Handles the records of one service, each in one transaction."""

    def __init__(self, service: Service, database: Database, inbox: Inbox) -> None:
        self._service = service
        self._database = database
        self._inbox = inbox

    def handle(self, record: Record) -> Outcome:
        """Handle one record.

        Raises
        ------
        DatabaseAway
            When the database can't be reached. The record is not to blame.
        Exception
            Whatever else the record can't be handled for. Nothing was changed.
        """
        name = "unknown"
        try:
            kind = event_type(record)
            handler = self._service.handlers.get(kind) if kind else None
            name = kind.type() if kind else name
            if kind is None or handler is None:
                outcome = Outcome.IGNORED
            else:
                with metrics.EVENT_DURATION.labels(name).time():
                    outcome = self._in_one_transaction(open_record(record, kind), handler)
        except DatabaseAway:
            raise
        except Exception:
            metrics.EVENTS.labels(name, "failed").inc()
            raise
        metrics.EVENTS.labels(name, outcome.value).inc()
        return outcome

    def _in_one_transaction(self, envelope: Envelope, handler: Handler) -> Outcome:
        name = f"{self._service.name} handles {envelope.event.type()}"
        with (
            span(name, SpanKind.CONSUMER, envelope.traceparent),
            self._database.transaction(cause=envelope.event_id) as tx,
        ):
            if not self._inbox.first_time(tx.connection, envelope):
                return Outcome.DUPLICATE
            handler(tx, envelope.event)
            return Outcome.HANDLED
