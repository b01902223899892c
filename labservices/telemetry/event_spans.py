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

from labservices.events import Event
from labservices.record import Envelope, Record
from labservices.telemetry.tracing import extract_context, record_foreign_span, remote_context, span

RELAY = "debezium"


@contextmanager
def to_outbox(event: Event, event_id: UUID) -> Iterator[Span]:
    """Run the block that writes an event to the outbox in a span; the row's ``traceparent`` refers to this span."""
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "create",
        "messaging.destination.name": event.topic,
        "messaging.message.id": str(event_id),
        "event.type": event.type(),
        "order.id": str(event.order_id),
    }
    with span(f"{event.type()} to outbox", SpanKind.PRODUCER, attributes=attributes) as current:
        yield current


@contextmanager
def handling(service: str, envelope: Envelope) -> Iterator[Span]:
    """Run the handling of an event in a span of the event's trace; an exception is recorded on the span."""
    kind = envelope.event.type()
    with span(
        f"{service} handles {kind}", SpanKind.CONSUMER, _parent_context(envelope), _record_attributes(envelope)
    ) as current:
        try:
            yield current
        except BaseException:
            current.set_attribute("event.outcome", "failed")
            raise


@contextmanager
def dead_lettering(service: str, record: Record) -> Iterator[Span]:
    """Run the block that dead-letters a record in a span of the record's trace."""
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "send",
        "messaging.destination.name": f"{service}.dlq",
        "messaging.message.id": record.headers.get("ce_id", ""),
        "event.type": record.headers.get("ce_type", ""),
        "order.id": record.key or "",
    }
    parent = _relay_context(record.headers.get("traceparent"), record.headers.get("ce_id", ""))
    with span(f"{service} gives up", SpanKind.PRODUCER, parent, attributes) as current:
        yield current


def relay_span_id(event_id: str) -> int:
    """Return the id of the relay's span for an event; the same event id always gives the same span id."""
    return int.from_bytes(hashlib.sha256(f"relay:{event_id}".encode()).digest()[:8])


def _relay_context(traceparent: str | None, event_id: str) -> Context:
    producer = trace.get_current_span(extract_context(traceparent)).get_span_context()
    if not producer.is_valid:
        return Context()
    return remote_context(producer.trace_id, relay_span_id(event_id), producer.trace_flags)


def _parent_context(envelope: Envelope) -> Context:
    """Record the relay's span, and return it as the parent context of the next span."""
    producer = trace.get_current_span(extract_context(envelope.traceparent)).get_span_context()
    if producer.is_valid and producer.trace_flags.sampled:
        _record_relay_span(envelope, producer)
    return _relay_context(envelope.traceparent, str(envelope.event_id))


def _record_relay_span(envelope: Envelope, producer: SpanContext) -> None:
    created, written = envelope.created_at, envelope.record.written_at
    if created is None or written is None:  # a parked record no longer has its Kafka timestamp
        return
    start = round(created.timestamp() * 1e9)
    attributes = _record_attributes(envelope)
    name = f"{envelope.event.type()} relayed"
    times = (start, max(start, round(written.timestamp() * 1e9)))
    record_foreign_span(RELAY, name, relay_span_id(str(envelope.event_id)), producer, times, attributes)


def _record_attributes(envelope: Envelope) -> dict[str, AttributeValue]:
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
