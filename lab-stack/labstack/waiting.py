"""Wait for a condition by polling, instead of a fixed sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar, cast

from labstack.errors import TimedOut

T = TypeVar("T")

GROWTH = 0.05
"""Longest pause as a fraction of the elapsed time, so that a probe is late by at most this fraction."""

SHORTEST_INTERVAL = 0.02
LONGEST_INTERVAL = 0.25
"""Bounds of a pause, in seconds."""


def poll_until(
    probe: Callable[[], T | bool | None],
    timeout: float,
    *,
    interval: float | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> T | bool | None:
    """Call `probe` until its result is true, and return the result; after `timeout` seconds return the last result.

    By default the pauses grow with the elapsed time, from 20 ms to a quarter of a second. Frequent probes of a slow
    start would take CPU time from the components that they wait for.

    Parameters
    ----------
    probe : callable
        Called repeatedly. Its exceptions are not caught.
    timeout : float
        Seconds.
    interval : float, optional
        Fixed number of seconds between two calls, instead of growing pauses.
    meanwhile : callable, optional
        Called before each probe; it raises an exception to end the wait early (a process died, Ctrl-C was pressed).
    """
    began = time.monotonic()
    deadline = began + timeout
    while True:
        if meanwhile:
            meanwhile()
        answer = probe()
        if answer or time.monotonic() >= deadline:
            return answer
        growing = min((time.monotonic() - began) * GROWTH, LONGEST_INTERVAL)
        time.sleep(max(SHORTEST_INTERVAL, growing) if interval is None else interval)


def wait_until(
    probe: Callable[[], T | None],
    timeout: float,
    *,
    what: str = "the expected state",
    interval: float | None = None,
    meanwhile: Callable[[], None] | None = None,
    next_step: str = "run `lab status` to see each component",
) -> T:
    """Call `probe` until its result is true, and return the result.

    Parameters
    ----------
    probe, interval, meanwhile
        See `poll_until`.
    timeout : float
        Seconds.
    what : str
        What the probe waits for, for the message: "the broker to delete the topics".
    next_step : str
        What the user can do about it, for the message.

    Raises
    ------
    TimedOut
        If the result is still false after `timeout` seconds. The message contains the last result.
    """
    answer = poll_until(probe, timeout, interval=interval, meanwhile=meanwhile)
    if not answer:
        raise TimedOut(
            f"Waited {timeout:g} s for {what}; the last result was {answer!r}.",
            next_step=next_step,
        )
    return cast(T, answer)
