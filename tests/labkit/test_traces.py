"""What a trace tells about the time of its spans."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from labkit.errors import KitError
from labkit.exercises import course
from labkit.sources.traces import Span, Trace

MS = 1_000_000
"""A millisecond, in nanoseconds."""


def span(number: int, parent: int, name: str, start: int, end: int) -> Span:
    """Return a span, with its times in milliseconds."""
    return Span("trace", str(number), str(parent), "shipping", name, "consumer", start * MS, end * MS)


TRACE = Trace(
    [
        span(1, 0, "POST /orders", 0, 700),
        span(2, 1, "shipping handles PaymentCompleted", 50, 650),
        span(3, 2, "OrderCompleted to outbox", 640, 645),
        span(4, 3, "shipping handles OrderCompleted", 660, 1300),
        span(5, 1, "order handles InventoryReserved", 60, 90),
    ]
)


def test_the_slowest_span_on_the_way_to_another() -> None:
    """Among all spans the late one is the slowest; on the way to OrderCompleted it is the one that delayed it."""
    assert TRACE.slowest().name == "shipping handles OrderCompleted"
    assert TRACE.slowest(to="OrderCompleted to outbox").name == "shipping handles PaymentCompleted"


def test_a_path_leads_from_the_root() -> None:
    """A path has the ancestors of a span and the span itself; a span on another branch is not on it."""
    assert [one.span_id for one in TRACE.path("OrderCompleted to outbox")] == ["1", "2", "3"]
    assert TRACE.path("no such span") == []
    with pytest.raises(KitError, match="no span 'no such span'"):
        TRACE.slowest(to="no such span")


def test_the_exercise_rejects_a_span_after_the_end() -> None:
    """A slow handler of OrderCompleted is not the cause of a slow order."""
    (exercise,) = [one for one in course()["10"] if one.name == "the-slow-hop"]

    traces = SimpleNamespace(of=lambda order: SimpleNamespace(trace=TRACE))
    bench: Any = SimpleNamespace(given=SimpleNamespace(order="order-1"), look=SimpleNamespace(traces=traces))
    late = exercise.check(bench, "shipping handles OrderCompleted")
    assert (late.outcome, "did not lead to OrderCompleted" in late.message) == ("wrong", True)
    assert exercise.check(bench, "shipping handles PaymentCompleted").outcome == "right"
