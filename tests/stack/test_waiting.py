"""Waits: probes come often at first, then seldom, unless a fixed pace is asked for."""

from __future__ import annotations

from labstack.waiting import wait_until


def probes(interval: float | None = None) -> int:
    """Return how many probes a wait of half a second makes."""
    made: list[None] = []
    assert not wait_until(lambda: made.append(None), 0.5, interval=interval)
    return len(made)


def test_pauses_grow_from_twenty_milliseconds() -> None:
    """By default half a second has three probes at least and 26 at most, since no pause is shorter than 20 ms."""
    assert 3 <= probes() <= 26


def test_a_fixed_pace_is_kept() -> None:
    """With one interval of a second the wait probes at its start and at its end only."""
    assert probes(interval=1.0) == 2


def test_the_last_answer_is_returned() -> None:
    """A wait returns what the probe returned, true or not."""
    assert wait_until(lambda: "ready", 1) == "ready"
    assert wait_until(lambda: "", 0.05) == ""
