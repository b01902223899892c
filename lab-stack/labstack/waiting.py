"""Readiness is probed, never slept for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    probe: Callable[[], T | bool | None],
    timeout: float,
    *,
    interval: float = 0.02,
    meanwhile: Callable[[], None] | None = None,
) -> T | bool | None:
    """Call `probe` until it answers with something true, and return that; after `timeout` seconds return its last
    answer.

    Parameters
    ----------
    probe : callable
        Asked again and again. Exceptions pass through.
    timeout : float
        Seconds.
    interval : float
        Seconds between two questions.
    meanwhile : callable, optional
        Called before each question; raises to give up early (a process died, somebody pressed Ctrl-C).
    """
    deadline = time.monotonic() + timeout
    while True:
        if meanwhile:
            meanwhile()
        answer = probe()
        if answer or time.monotonic() >= deadline:
            return answer
        time.sleep(interval)
