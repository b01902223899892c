"""Waits probe often at first, then less often, unless a fixed interval is set."""

from __future__ import annotations

from labstack.waiting import wait_until


def count_probes(interval: float | None = None) -> int:
    """Return the number of probes that a wait of 0.5 s makes."""
    made: list[None] = []
    assert not wait_until(lambda: made.append(None), 0.5, interval=interval)
    return len(made)


def test_pauses_are_at_least_twenty_milliseconds() -> None:
    """By default, a wait of 0.5 s makes 3 to 26 probes, because no pause is shorter than 20 ms."""
    assert 3 <= count_probes() <= 26


def test_fixed_interval_is_kept() -> None:
    """With an interval of 1 s, a shorter wait probes only at its start and at its end."""
    assert count_probes(interval=1.0) == 2


def test_wait_returns_the_last_probe_result() -> None:
    """A wait returns the last result of the probe, true or not."""
    assert wait_until(lambda: "ready", 1) == "ready"
    assert wait_until(lambda: "", 0.05) == ""
