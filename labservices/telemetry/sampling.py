"""Trace sampling: all requests are traced, up to a rate limit.

Spans cost time: up to a fifth of the capacity of a busy machine. So the service that starts a trace records a limited
number of traces per second. A trace that is not sampled costs nothing, because the downstream services do not record it
either. Each HTTP method has a separate budget: after a thousand queries for an order's status, the next order is still
traced.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

PER_SECOND = 5.0
AT_ONCE = 50.0
"""Traces per HTTP method: the sustained rate per second, and the maximum burst after a pause."""


class Budget(Sampler):
    """Samples requests until the budget is spent; child spans follow the decision of their parent.

    It is a token bucket, as in Jaeger's rate-limiting sampler. Source: OpenTelemetry's specification, "Sampling".
    """

    def __init__(self, per_second: float = PER_SECOND, at_once: float = AT_ONCE) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._left: dict[str, float] = defaultdict(lambda: at_once)
        self._filled = time.monotonic()
        self._lock = threading.Lock()
        self._as_before = ParentBased(ALWAYS_ON)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide whether to sample a new span; the name of a request's span is its HTTP method."""
        before = self._as_before.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if kind is not SpanKind.SERVER or not before.decision.is_sampled() or self._spend(name):
            return before
        state = trace.get_current_span(parent_context).get_span_context().trace_state
        return SamplingResult(Decision.DROP, trace_state=state)

    def get_description(self) -> str:
        """Return the sampler's name with its rate."""
        return f"Budget({self._per_second:g}/s)"

    def _spend(self, method: str) -> bool:
        with self._lock:
            now = time.monotonic()
            more = (now - self._filled) * self._per_second
            self._filled = now
            for one in self._left:
                self._left[one] = min(self._at_once, self._left[one] + more)
            if self._left[method] < 1:
                return False
            self._left[method] -= 1
            return True
