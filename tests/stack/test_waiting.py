"""Waits probe often at first, then less often, unless a fixed interval is set."""

from __future__ import annotations

import threading
import time

import pytest

from labstack.errors import TimedOut
from labstack.waiting import answers, every, poll_until, wait_until


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
    """A wait returns a true result, or raises an error with its condition and the last result."""
    assert wait_until(lambda: "ready", 1) == "ready"
    with pytest.raises(TimedOut, match=r"Waited 0\.05 s for the slot to be free; the last result was \[\]"):
        wait_until(list, 0.05, what="the slot to be free")


def test_slow_answers_are_left_out() -> None:
    """Questions are asked in parallel, and those that take longer than the limit have no answer."""
    never = threading.Event()
    began = time.monotonic()
    assert answers({"fast": lambda: True, "slow": lambda: never.wait(10)}, 0.2) == {"fast": True}
    assert time.monotonic() - began < 5
    never.set()


def test_failed_question_raises() -> None:
    """The exception of a question reaches the caller."""

    def fail() -> None:
        raise TimedOut("nothing came")

    with pytest.raises(TimedOut, match="nothing came"):
        answers({"failed": fail}, 5)


def test_action_runs_at_most_once_per_interval() -> None:
    """An action with an interval runs at the first call, and not again before the interval has passed."""
    runs: list[None] = []
    again = every(60, lambda: runs.append(None))
    again()
    again()
    assert len(runs) == 1
