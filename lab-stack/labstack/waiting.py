"""Readiness is probed, never slept for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

GROWTH = 0.05
"""A pause is at most this part of the time that has passed, so a probe is late by no more than that."""

SHORTEST_INTERVAL = 0.02
LONGEST_INTERVAL = 0.25
"""Seconds from which, and to which, pauses grow."""


def wait_until(
    probe: Callable[[], T | bool | None],
    timeout: float,
    *,
    interval: float | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> T | bool | None:
    """Call `probe` until it returns something true, and return that; after `timeout` seconds return its last answer.

    By default the pauses grow with the time that has passed, from 20 ms to a quarter of a second: many probes of a slow
    start would otherwise take the processor from what they wait for.

    Parameters
    ----------
    probe : callable
        Called again and again. Its exceptions pass through.
    timeout : float
        Seconds.
    interval : float, optional
        Seconds between two calls, if these have to come at a fixed pace.
    meanwhile : callable, optional
        Called before each probe; raises to end the wait early (a process died, Ctrl-C was pressed).
    """
    began = time.monotonic()
    deadline = began + timeout
    while True:
        if meanwhile:
            meanwhile()
        answer = probe()
        if answer or time.monotonic() >= deadline:
            return answer
        grown = min((time.monotonic() - began) * GROWTH, LONGEST_INTERVAL)
        time.sleep(max(SHORTEST_INTERVAL, grown) if interval is None else interval)
