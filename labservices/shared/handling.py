"""How an event is handled: one event, one transaction.

This is where outbox and inbox meet. In one database transaction,

1. the inbox writes the event's id down, or stops if it is there,
2. the handler changes the service's own state, and
3. the outbox takes what the service has to say about it.

After the commit all three stand; after a crash at any moment before it, none. Kafka's offset is committed later (see
``consumer.py``), so the event comes again if the process dies in between, and then the inbox stops it.

An event that can't be handled is parked, and so is what comes behind it (see ``parking.py``).
"""

import logging
import time
from collections.abc import Callable
from enum import StrEnum

from opentelemetry.trace import Span

from labservices.shared import event_spans, metrics, parking
from labservices.shared.database import Database, DatabaseAway, Transaction
from labservices.shared.dead_letters import BrokerAway, DeadLetters
from labservices.shared.inbox import Admission, Inbox
from labservices.shared.parking import Failure, Parked, State
from labservices.shared.record import Envelope, Record, event_type, open_record
from labservices.shared.service import Handler, Service

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of a record."""

    HANDLED = "handled"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    BEHIND = "behind"
    FAILED = "failed"
    DEAD = "dead"


Call = Callable[[Handler, Transaction, Envelope], None]
"""Calls the handler of an event in its transaction."""


def call_handler(handler: Handler, tx: Transaction, envelope: Envelope) -> None:
    """Call the handler of an event."""
    handler(tx, envelope.event)


class EventHandling:
    """Handles the records of one service, each in one transaction."""

    def __init__(
        self,
        service: Service,
        database: Database,
        inbox: Inbox,
        dead_letters: DeadLetters,
        call: Call = call_handler,
    ) -> None:
        self._service = service
        self._database = database
        self._inbox = inbox
        self._dead_letters = dead_letters
        self._call = call

    def handle(self, record: Record) -> Outcome:
        """Handle one record, or park it.

        Raises
        ------
        DatabaseAway
            When the database can't be reached. Nothing was changed, and the record is not to blame.
        """
        name = "unknown"
        try:
            found = self._find_handler(record)
            if found is None:
                outcome = Outcome.IGNORED
            else:
                envelope, handler = found
                name = envelope.event.type()
                outcome = self._in_one_transaction(envelope, handler)
        except DatabaseAway:
            raise
        except Exception as error:
            failure = Failure.of(error, attempts=1)
            with self._database.transaction() as tx:
                parking.park(tx.connection, record, failure.state, failure)
            log_failure(record, error, failure)
            outcome = Outcome.FAILED
        metrics.EVENTS.labels(name, outcome.value).inc()
        return outcome

    def try_parked(self) -> Outcome | None:
        """Try the next parked record that is due; answer None where none is.

        Raises
        ------
        DatabaseAway
            When the database can't be reached.
        """
        parked = None
        try:
            with self._database.transaction() as tx:
                parked = parking.next_due(tx.connection)
                if parked is None:
                    return None
                outcome = self._bury(tx, parked) if parked.state is State.GIVEN_UP else self._try_again(tx, parked)
        except DatabaseAway:
            raise
        except Exception as error:
            if parked is None:
                raise
            failure = Failure.of(error, parked.attempts + 1)
            with self._database.transaction() as tx:
                parking.note_failure(tx.connection, parked.parking_id, failure)
            log_failure(parked.record, error, failure)
            outcome = Outcome.FAILED
        metrics.PARKED.labels(outcome.value).inc()
        return outcome

    def seconds_until_due(self) -> float | None:
        """Tell in how many seconds the next parked record is due; None where none waits for its time.

        Raises
        ------
        DatabaseAway
            When the database can't be reached.
        """
        with self._database.transaction() as tx:
            return parking.seconds_until_due(tx.connection)

    def _find_handler(self, record: Record) -> tuple[Envelope, Handler] | None:
        """Open a record that concerns this service; None for all others, whatever they hold."""
        kind = event_type(record)
        handler = self._service.handlers.get(kind) if kind else None
        return (open_record(record, kind), handler) if kind and handler else None

    def _in_one_transaction(self, envelope: Envelope, handler: Handler) -> Outcome:
        kind = envelope.event.type()
        with event_spans.handling(self._service.name, envelope) as span:
            metrics.count_way(envelope.event.topic, envelope.made, envelope.record.written)
            begin = time.perf_counter()
            try:
                with self._database.transaction(cause=envelope.event_id) as tx:
                    return _noted(span, self._admit(tx, envelope, handler))
            finally:
                metrics.EVENT_DURATION.labels(kind).observe(time.perf_counter() - begin, metrics.exemplar())

    def _admit(self, tx: Transaction, envelope: Envelope, handler: Handler) -> Outcome:
        match self._inbox.admit(tx.connection, envelope):
            case Admission.NEW:
                self._call(handler, tx, envelope)
                return Outcome.HANDLED
            case Admission.DUPLICATE:
                return Outcome.DUPLICATE
            case Admission.BEHIND:
                parking.park(tx.connection, envelope.record, State.BEHIND)
                return Outcome.BEHIND

    def _try_again(self, tx: Transaction, parked: Parked) -> Outcome:
        """Handle a parked record, in the transaction that holds it."""
        found = self._find_handler(parked.record)
        outcome = Outcome.IGNORED
        if found:
            envelope, handler = found
            outcome = Outcome.DUPLICATE
            with event_spans.handling(self._service.name, envelope) as span:
                tx.cause = envelope.event_id
                if self._inbox.admit(tx.connection, envelope, is_its_turn=True) is Admission.NEW:
                    self._call(handler, tx, envelope)
                    outcome = Outcome.HANDLED
                _noted(span, outcome)
        parking.remove(tx.connection, parked.parking_id)
        return outcome

    def _bury(self, tx: Transaction, parked: Parked) -> Outcome:
        """Send a record to the dead-letter topic; it is noted as dead only when the broker has it."""
        try:
            with event_spans.burial(self._service.name, parked.record):
                self._dead_letters.send(parked)
        except BrokerAway as error:
            log.warning("a dead letter waits for the broker: %s", error)
            parking.put_off(tx.connection, parked.parking_id)
            return Outcome.BEHIND
        parking.note_dead(tx.connection, parked.parking_id)
        return Outcome.DEAD


def _noted(span: Span, outcome: Outcome) -> Outcome:
    span.set_attribute("event.outcome", outcome.value)
    return outcome


def log_failure(record: Record, error: Exception, failure: Failure) -> None:
    """Log why a record was not handled; a stack trace only where the code may be to blame."""
    where = f"{record.topic}[{record.partition}]@{record.offset}"
    then = "given up" if failure.state is State.GIVEN_UP else "to be tried again"
    log.error(
        "%s can't be handled (attempt %d; %s): %r", where, failure.attempts, then, error, exc_info=not failure.permanent
    )
