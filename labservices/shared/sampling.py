"""Which requests are traced: all of them, unless there are very many.

Spans cost time, as much as a fifth of what a busy machine can carry. So each service that begins something records at
most so many traces a second, and the others cost nothing: a trace that is not recorded here is recorded by nobody that
comes after. Reads and writes have budgets of their own: who asks a thousand times for an order's status still sees the
next order's trace.
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
"""Traces of each method, on and on, and after a pause."""


class Budget(Sampler):
    """Samples requests until their budget is spent; whatever comes of a request does as the request did.

    Source: OpenTelemetry's specification, "Sampling"; a token bucket, as in Jaeger's rate-limiting sampler.
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
        """Decide about a span that begins; of a request the name is its method."""
        before = self._as_before.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if kind is not SpanKind.SERVER or not before.decision.is_sampled() or self._spend(name):
            return before
        state = trace.get_current_span(parent_context).get_span_context().trace_state
        return SamplingResult(Decision.DROP, trace_state=state)

    def get_description(self) -> str:
        """Name it."""
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
