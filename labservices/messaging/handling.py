"""Event handling: one event, one transaction.

This module combines outbox and inbox. In one database transaction,

1. the inbox inserts the event's id, and ends the handling if the id exists already,
2. the handler changes the service's own state, and
3. the service appends its events to the outbox.

The commit makes all three permanent; a crash before the commit rolls all three back. The consumer commits the Kafka
offset later (see ``consumer.py``). If the process dies in between, Kafka delivers the event again, and the inbox
rejects the duplicate.

An event that can't be handled is parked, and so are the later events of the same order (see ``parking.py``).
"""

import contextlib
import logging
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from opentelemetry.trace import Span

from labservices.messaging import parking
from labservices.messaging.dead_letters import BrokerUnavailable, DeadLetterPublisher, RecordRefused
from labservices.messaging.inbox import Admission, Inbox
from labservices.messaging.parking import Failure, Parked, State
from labservices.messaging.replay import Replay
from labservices.record import Envelope, Record, event_type, open_record
from labservices.service import Handler, Service
from labservices.storage.database import Database, Transaction
from labservices.storage.unavailable import DatabaseUnavailable
from labservices.telemetry import event_spans, metrics

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """The result of handling a record."""

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


class RetryLater(Exception):
    """A record can't be handled now. Nothing is changed; the consumer keeps its position and retries the record."""


class RecordHandling(Protocol):
    """Handles the records of a consumer's topics."""

    def handle(self, record: Record) -> Outcome:
        """Handle one record.

        Raises
        ------
        DatabaseUnavailable, RetryLater
            If the record must be retried. Nothing is changed, unless the connection broke during the commit; then the
            change may be committed.
        """

    def try_parked(self) -> Outcome | None:
        """Retry the next parked record that is due; return None if none is due."""

    def seconds_until_due(self) -> float | None:
        """Return the seconds until the next parked record is due, or None if no record waits for a retry."""


def find_handler(service: Service, record: Record) -> tuple[Envelope, Handler] | None:
    """Parse a record that a service handles; return None for a record of any other type, whatever its content.

    Raises
    ------
    InvalidRecord
        If the record has no type, or if the service handles its type but the record does not have the event's form.
    """
    kind = event_type(record)
    handler = service.handlers.get(kind) if kind else None
    return (open_record(record, kind), handler) if kind and handler else None


class EventHandling:
    """Handles the records of one service, each in one transaction, with inbox, parking and dead letters."""

    def __init__(
        self,
        service: Service,
        database: Database,
        inbox: Inbox,
        dead_letters: DeadLetterPublisher,
        call: Call = call_handler,
    ) -> None:
        self._service = service
        self._database = database
        self._inbox = inbox
        self._dead_letters = dead_letters
        self._call = call
        self._replay = Replay(inbox)

    def handle(self, record: Record) -> Outcome:
        """Handle one record, or park it.

        Raises
        ------
        DatabaseUnavailable
            If the database is unavailable. The failure does not count against the record. Nothing is changed, unless
            the connection broke during the commit; then the change may be committed.
        """
        name = "unknown"
        try:
            found = find_handler(self._service, record)
            if found is None:
                outcome = Outcome.IGNORED
            else:
                envelope, handler = found
                name = envelope.event.type()
                outcome = self._in_one_transaction(envelope, handler)
        except DatabaseUnavailable:
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
        """Retry the next parked record that is due; return None if none is due.

        Raises
        ------
        DatabaseUnavailable
            If the database is unavailable.
        """
        parked = None
        try:
            with self._database.transaction() as tx:
                parked = parking.next_due(tx.connection)
                if parked is None:
                    return None
                outcome = self._dead_letter(tx, parked) if parked.state is State.GIVEN_UP else self._retry(tx, parked)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            if parked is None:
                raise
            failure = Failure.of(error, parked.attempts + 1)
            with self._database.transaction() as tx:
                parking.record_failure(tx.connection, parked.parking_id, failure)
            log_failure(parked.record, error, failure)
            outcome = Outcome.FAILED
        metrics.PARKED.labels(outcome.value).inc()
        return outcome

    def seconds_until_due(self) -> float | None:
        """Return the seconds until the next parked record is due, or None if no record waits for a retry.

        Raises
        ------
        DatabaseUnavailable
            If the database is unavailable.
        """
        with self._database.transaction() as tx:
            return parking.seconds_until_due(tx.connection)

    def _in_one_transaction(self, envelope: Envelope, handler: Handler) -> Outcome:
        kind = envelope.event.type()
        with event_spans.handling(self._service.name, envelope) as span:
            metrics.observe_delivery(envelope.event.topic, envelope.created_at, envelope.record.written_at)
            start = time.perf_counter()
            try:
                if self._replay.take(envelope.event_id):
                    return _set_outcome(span, Outcome.DUPLICATE)
                with self._database.transaction(cause=envelope.event_id) as tx:
                    return _set_outcome(span, self._admit(tx, envelope, handler))
            finally:
                metrics.EVENT_DURATION.labels(kind).observe(time.perf_counter() - start, metrics.exemplar())

    def _admit(self, tx: Transaction, envelope: Envelope, handler: Handler) -> Outcome:
        match self._inbox.admit(tx.connection, envelope):
            case Admission.NEW:
                self._replay.note_new_event()
                self._call(handler, tx, envelope)
                return Outcome.HANDLED
            case Admission.DUPLICATE:
                self._replay.note_duplicate(tx.connection, envelope.event_id)
                return Outcome.DUPLICATE
            case Admission.BEHIND:
                parking.park(tx.connection, envelope.record, State.BEHIND)
                return Outcome.BEHIND

    def _retry(self, tx: Transaction, parked: Parked) -> Outcome:
        """Handle a parked record in the transaction that locks it."""
        found = find_handler(self._service, parked.record)
        outcome = Outcome.IGNORED
        if found:
            envelope, handler = found
            outcome = Outcome.DUPLICATE
            with event_spans.handling(self._service.name, envelope) as span:
                tx.cause = envelope.event_id
                if self._inbox.admit(tx.connection, envelope, is_first_parked=True) is Admission.NEW:
                    self._call(handler, tx, envelope)
                    outcome = Outcome.HANDLED
                _set_outcome(span, outcome)
        parking.remove(tx.connection, parked.parking_id)
        return outcome

    def _dead_letter(self, tx: Transaction, parked: Parked) -> Outcome:
        """Publish a record to the dead-letter topic, and mark it as dead after the broker's acknowledgement.

        A record that the topic refuses is replaced by its stub. If the topic refuses the stub, too, only the database
        has the dead letter.
        """
        try:
            with event_spans.dead_lettering(self._service.name, parked.record):
                try:
                    self._dead_letters.send(parked)
                except RecordRefused as refusal:
                    stub = parking.replace_by_stub(tx.connection, parked, str(refusal))
                    with contextlib.suppress(RecordRefused):
                        self._dead_letters.send(stub)
        except BrokerUnavailable as error:
            log.warning("a dead letter can't be published yet; it will be retried: %s", error)
            parking.postpone(tx.connection, parked.parking_id)
            return Outcome.BEHIND
        parking.mark_dead(tx.connection, parked.parking_id)
        return Outcome.DEAD


def _set_outcome(span: Span, outcome: Outcome) -> Outcome:
    span.set_attribute("event.outcome", outcome.value)
    return outcome


def log_failure(record: Record, error: Exception, failure: Failure) -> None:
    """Log why a record was not handled, with a stack trace only if the code may be the cause."""
    where = f"{record.topic}[{record.partition}]@{record.offset}"
    next_step = "it will be dead-lettered" if failure.state is State.GIVEN_UP else "it will be retried"
    log.error(
        "%s can't be handled (attempt %d; %s): %r",
        where,
        failure.attempts,
        next_step,
        error,
        exc_info=not failure.permanent,
    )
