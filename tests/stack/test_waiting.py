"""Waits probe often at first, then less often, unless a fixed interval is set."""

from __future__ import annotations

import pytest

from labstack.errors import TimedOut
from labstack.waiting import poll_until, wait_until


def count_probes(interval: float | None = None) -> int:
    """Return the number of probes that a wait of 0.5 s makes."""
    made: list[None] = []
    assert not poll_until(lambda: made.append(None), 0.5, interval=interval)
    return len(made)


def test_pauses_are_at_least_twenty_milliseconds() -> None:
    """By default, a wait of 0.5 s makes 3 to 26 probes, because no pause is shorter than 20 ms."""
    assert 3 <= count_probes() <= 26


def test_fixed_interval_is_kept() -> None:
    """With an interval of 1 s, a shorter wait probes only at its start and at its end."""
    assert count_probes(interval=1.0) == 2


def test_wait_returns_the_last_probe_result() -> None:
    """Polling returns the last result of the probe, true or not."""
    assert poll_until(lambda: "ready", 1) == "ready"
    assert poll_until(lambda: "", 0.05) == ""


def test_wait_that_times_out_raises() -> None:
    """A wait returns a true result, or raises with what it waited for and the last result."""
    assert wait_until(lambda: "ready", 1) == "ready"
    with pytest.raises(TimedOut, match=r"Waited 0\.05 s for the slot to be free; the last result was \[\]"):
        wait_until(list, 0.05, what="the slot to be free")
