"""Trace sampling: which requests are traced."""

from types import SimpleNamespace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

from labservices.telemetry import sampling
from labservices.telemetry.sampling import Budget
from labservices.telemetry.tracing import current_traceparent, extract_context, span

FROM_GATEWAY = extract_context("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


def sampled(provider: TracerProvider, method: str, times: int) -> int:
    """Return the number of traced requests."""
    tracer = provider.get_tracer("test")
    spans = [tracer.start_span(method, context=FROM_GATEWAY, kind=SpanKind.SERVER) for _ in range(times)]
    return sum(span.get_span_context().trace_flags.sampled for span in spans)


def test_burst_is_traced_up_to_its_budget() -> None:
    """A burst is traced up to its budget, and another method has a separate budget."""
    provider = TracerProvider(sampler=Budget(per_second=0.001, burst=10))
    assert sampled(provider, "GET", 50) == 10
    assert sampled(provider, "POST", 5) == 5


def test_budget_refills_at_its_rate_up_to_its_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget grows by its rate per second, and after a long pause it is full, not larger."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(sampling, "time", SimpleNamespace(monotonic=lambda: clock.now))
    provider = TracerProvider(sampler=Budget(per_second=2, burst=3))
    found = []
    for pause in (0, 0, 0.4, 0.1, 1, 3600, 0):
        clock.now += pause
        found.append(sampled(provider, "POST", 10))
    assert found == [3, 0, 0, 1, 2, 3, 0]


def test_child_spans_follow_the_parent_sampling_decision() -> None:
    """All spans below a traced request are traced, and none below an untraced one."""
    tracer = TracerProvider(sampler=Budget(per_second=0.001, burst=1)).get_tracer("test")
    for expected in (True, False):
        request = tracer.start_span("POST", context=FROM_GATEWAY, kind=SpanKind.SERVER)
        here = trace.set_span_in_context(request)
        below = [tracer.start_span("row", context=here, kind=SpanKind.PRODUCER) for _ in range(5)]
        assert {span.get_span_context().trace_flags.sampled for span in (request, *below)} == {expected}
        assert {span.get_span_context().trace_id for span in below} == {request.get_span_context().trace_id}


def test_untraced_request_passes_on_its_traceparent() -> None:
    """Inside the block, an untraced request passes on its traceparent unchanged; afterwards there is none."""
    untraced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    with span("order handles PaymentCompleted", SpanKind.CONSUMER, extract_context(untraced)) as current:
        assert not current.is_recording()
        with span("OrderCompleted to outbox", SpanKind.PRODUCER):
            assert current_traceparent() == untraced
    assert current_traceparent() is None
