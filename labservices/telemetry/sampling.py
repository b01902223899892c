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
BURST = 50.0
"""Traces per HTTP method: the sustained rate per second, and the maximum burst after a pause."""


class Budget(Sampler):
    """Samples requests until the budget is spent; all other child spans follow the decision of their parent.

    A request from a sampled trace also needs budget. A request from a trace that is not sampled is not sampled either.

    It is a token bucket, as in Jaeger's rate-limiting sampler. Source: OpenTelemetry's specification, "Sampling".
    """

    def __init__(self, per_second: float = PER_SECOND, burst: float = BURST) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left: dict[str, float] = defaultdict(lambda: burst)
        self._filled_at = time.monotonic()
        self._lock = threading.Lock()
        self._parent_based = ParentBased(ALWAYS_ON)

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
        result = self._parent_based.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if kind is not SpanKind.SERVER or not result.decision.is_sampled() or self._spend(name):
            return result
        state = trace.get_current_span(parent_context).get_span_context().trace_state
        return SamplingResult(Decision.DROP, trace_state=state)

    def get_description(self) -> str:
        """Return the sampler's name with its rate."""
        return f"Budget({self._per_second:g}/s)"

    def _spend(self, method: str) -> bool:
        with self._lock:
            now = time.monotonic()
            added = (now - self._filled_at) * self._per_second
            self._filled_at = now
            for one in self._left:
                self._left[one] = min(self._burst, self._left[one] + added)
            if self._left[method] < 1:
                return False
            self._left[method] -= 1
            return True
