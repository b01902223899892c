"""The spans of an event's delivery: into the outbox, through the relay, and into a handler.

Debezium records no spans, so the service that consumes a record also records the relay's span. This span lasts from the
timestamp of the outbox row to the timestamp of the record. Its id is derived from the event's id, so that all consumers
record the same span and use it as the parent of their own spans.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind
from opentelemetry.util.types import AttributeValue

from labservices.messaging.events import Event
from labservices.messaging.record import Envelope, Record
from labservices.telemetry.tracing import coming_from, context_of, note_foreign_span, span

RELAY = "debezium"


@contextmanager
def to_outbox(said: Event, event_id: UUID) -> Iterator[Span]:
    """Run the block that writes an event to the outbox in a span; the row's ``traceparent`` refers to this span."""
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "create",
        "messaging.destination.name": said.topic,
        "messaging.message.id": str(event_id),
        "event.type": said.type(),
        "order.id": str(said.order_id),
    }
    with span(f"{said.type()} to outbox", SpanKind.PRODUCER, attributes=attributes) as current:
        yield current


@contextmanager
def handling(service: str, envelope: Envelope) -> Iterator[Span]:
    """Run the handling of an event in a span of the event's trace; an exception is recorded on the span."""
    kind = envelope.event.type()
    with span(f"{service} handles {kind}", SpanKind.CONSUMER, _behind_relay(envelope), _of_record(envelope)) as current:
        try:
            yield current
        except BaseException:
            current.set_attribute("event.outcome", "failed")
            raise


@contextmanager
def burial(service: str, record: Record) -> Iterator[Span]:
    """Run the block that dead-letters a record in a span of the record's trace."""
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "send",
        "messaging.destination.name": f"{service}.dlq",
        "messaging.message.id": record.headers.get("ce_id", ""),
        "event.type": record.headers.get("ce_type", ""),
        "order.id": record.key or "",
    }
    here = _relayed(record.headers.get("traceparent"), record.headers.get("ce_id", ""))
    with span(f"{service} gives up", SpanKind.PRODUCER, here, attributes) as current:
        yield current


def relay_span_id(event_id: str) -> int:
    """Return the id of the relay's span for an event; the same event id always gives the same span id."""
    return int.from_bytes(hashlib.sha256(f"relay:{event_id}".encode()).digest()[:8])


def _relayed(traceparent: str | None, event_id: str) -> Context:
    before = trace.get_current_span(coming_from(traceparent)).get_span_context()
    if not before.is_valid:
        return Context()
    return context_of(before.trace_id, relay_span_id(event_id), before.trace_flags)


def _behind_relay(envelope: Envelope) -> Context:
    """Record the relay's span, and return it as the parent context of the next span."""
    before = trace.get_current_span(coming_from(envelope.traceparent)).get_span_context()
    if before.is_valid and before.trace_flags.sampled:
        _note_relay(envelope, before)
    return _relayed(envelope.traceparent, str(envelope.event_id))


def _note_relay(envelope: Envelope, before: SpanContext) -> None:
    made, written = envelope.made, envelope.record.written
    if made is None or written is None:  # a parked record no longer has its Kafka timestamp
        return
    begin = round(made.timestamp() * 1e9)
    attributes = _of_record(envelope)
    name = f"{envelope.event.type()} relayed"
    times = (begin, max(begin, round(written.timestamp() * 1e9)))
    note_foreign_span(RELAY, name, relay_span_id(str(envelope.event_id)), before, times, attributes)


def _of_record(envelope: Envelope) -> dict[str, AttributeValue]:
    """Return the attributes that identify the record.

    Source: OpenTelemetry's semantic conventions for messaging and Kafka.
    """
    record = envelope.record
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
        "messaging.message.id": str(envelope.event_id),
        "event.type": envelope.event.type(),
        "order.id": str(envelope.event.order_id),
    }
