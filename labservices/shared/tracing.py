"""Traces: one order is one trace, through all four services.

A trace goes on where its ``traceparent`` (W3C Trace Context) is handed on: from the HTTP request to the outbox row,
from the row to the record's header, from the header to the handler's span, and from there into the next outbox row.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_propagator = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("labservices")


def set_up(service: str) -> None:
    """Record spans from now on, in this process, in the service's name."""
    trace.set_tracer_provider(TracerProvider(resource=Resource({"service.name": service})))


@contextmanager
def span(name: str, kind: SpanKind, traceparent: str | None) -> Iterator[Span]:
    """Run a block in a span that goes on where ``traceparent`` comes from, or begins a trace where there is none."""
    parent = _propagator.extract({"traceparent": traceparent} if traceparent else {})
    with _tracer.start_as_current_span(name, context=parent, kind=kind) as current:
        yield current


def current_traceparent() -> str | None:
    """Write the span that runs now as a ``traceparent``, to hand on."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent")
