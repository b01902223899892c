"""Tracing: each order has one trace across all four services (docs/tracing.md).

The ``traceparent`` (W3C Trace Context) propagates the trace from the HTTP request to the outbox row, from the row to
the record's header, from the header to the handler's span, and from this span to the next outbox row.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from labservices.settings import Settings
from labservices.telemetry.exporting import make_exporter
from labservices.telemetry.sampling import Budget

_propagator = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("labservices")
_processor: BatchSpanProcessor | None = None

EXPORT_INTERVAL_MS = 500
"""Milliseconds between two exports of spans; each export takes a busy service about 3 ms."""

QUEUE = 4096
"""Maximum number of spans that wait for export; when the queue is full, the oldest are dropped."""


def set_up(service: str, settings: Settings | None = None) -> None:
    """Start recording spans in this process under the service's name, and export them as the settings specify."""
    global _processor
    provider = TracerProvider(resource=_resource_of(service), sampler=Budget())
    if settings and (exporter := make_exporter(settings)):
        _processor = BatchSpanProcessor(exporter, max_queue_size=QUEUE, schedule_delay_millis=EXPORT_INTERVAL_MS)
        provider.add_span_processor(_processor)
    trace.set_tracer_provider(provider)


def shut_down(timeout: float = 0.4) -> None:
    """Export the recorded spans, waiting at most ``timeout`` seconds."""
    if _processor:
        last = threading.Thread(target=_processor.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(timeout)


@contextmanager
def span(
    name: str,
    kind: SpanKind,
    parent: Context | None = None,
    attributes: dict[str, AttributeValue] | None = None,
) -> Iterator[Span]:
    """Run a block in a span.

    Parameters
    ----------
    name, kind, attributes
        The span's name, kind and attributes. OpenTelemetry's semantic conventions define names for most attributes.
    parent
        The parent context (see `extract_context`). Default: the current span.
    """
    if kind is not SpanKind.SERVER and _is_unsampled(parent):
        with _attached(parent):
            yield trace.get_current_span()
        return
    with _tracer.start_as_current_span(name, context=parent, kind=kind, attributes=attributes) as current:
        yield current


def _is_unsampled(parent: Context | None) -> bool:
    """Report whether the trace is not sampled (see `Budget`), so that a span in it would only cost time."""
    context = trace.get_current_span(parent).get_span_context()
    return context.is_valid and not context.trace_flags.sampled


@contextmanager
def _attached(parent: Context | None) -> Iterator[None]:
    """Run a block in the parent context, without a new span."""
    token = attach(get_current() if parent is None else parent)
    try:
        yield
    finally:
        detach(token)


def extract_context(traceparent: str | None) -> Context:
    """Return the context of a ``traceparent``; if it is missing or invalid, the next span starts a new trace."""
    return _propagator.extract({"traceparent": traceparent} if traceparent else {}, context=Context())


def current_traceparent() -> str | None:
    """Return the ``traceparent`` of the current span, or None if there is none."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent")


def record_foreign_span(
    service: str,
    name: str,
    span_id: int,
    parent: SpanContext,
    times: tuple[int, int],
    attributes: dict[str, AttributeValue],
) -> None:
    """Record a span on behalf of a service that records none.

    Parameters
    ----------
    service
        The name of that service.
    name, span_id, attributes
        The span's name, id and attributes. Recording the same id and content again yields the same span.
    parent
        The parent span.
    times
        The start and the end, in nanoseconds since 1970.
    """
    if _processor:
        context = SpanContext(parent.trace_id, span_id, is_remote=False, trace_flags=parent.trace_flags)
        _processor.on_end(
            ReadableSpan(
                name, context, parent, _resource_of(service), attributes, start_time=times[0], end_time=times[1]
            )
        )


@cache
def _resource_of(service: str) -> Resource:
    return Resource({"service.name": service})


def remote_context(trace_id: int, span_id: int, flags: TraceFlags) -> Context:
    """Return the context of a span that another process recorded."""
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(context), Context())
