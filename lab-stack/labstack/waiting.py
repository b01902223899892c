"""Wait for a condition by polling, instead of a fixed sleep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

from labstack.errors import TimedOut

T = TypeVar("T")
K = TypeVar("K")

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


def every(seconds: float, action: Callable[[], None]) -> Callable[[], None]:
    """Return a function for repeated calls, which runs `action` at the first one and then at most once per interval."""
    due = 0.0

    def run() -> None:
        nonlocal due
        if time.monotonic() >= due:
            action()
            due = time.monotonic() + seconds

    return run


def answers(questions: Mapping[K, Callable[[], T]], timeout: float) -> dict[K, T]:
    """Ask all questions in parallel, and return the answers that arrive within `timeout` seconds.

    A question that takes longer runs on in a daemon thread, and its answer is dropped.

    Parameters
    ----------
    questions : mapping
        A function for each key. The exception of one is raised here.
    timeout : float
        Seconds, for all questions together.
    """
    found: dict[K, T] = {}
    errors: list[BaseException] = []
    arrived = threading.Condition()

    def ask(key: K, question: Callable[[], T]) -> None:
        try:
            answer = question()
        except BaseException as error:  # it is raised in the caller's thread
            with arrived:
                errors.append(error)
                arrived.notify()
            return
        with arrived:
            found[key] = answer
            arrived.notify()

    for key, question in questions.items():
        threading.Thread(target=ask, args=(key, question), daemon=True).start()
    with arrived:
        arrived.wait_for(lambda: errors or len(found) == len(questions), timeout)
        if errors:
            raise errors[0]
        return dict(found)
