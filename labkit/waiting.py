"""Waiting for something to become true, instead of sleeping and hoping."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from labkit.errors import WaitedTooLong
from labstack import waiting

T = TypeVar("T")


def wait_until(probe: Callable[[], T], timeout: float = 30, *, what: str = "", interval: float = 0.05) -> T:
    """Ask again and again until the answer is something true, and return it.

    Parameters
    ----------
    probe : callable
        The question. What it raises passes through.
    timeout : float
        Seconds, at most.
    what : str
        What is waited for, for the message.
    interval : float
        Seconds between two questions.

    Raises
    ------
    WaitedTooLong
        The answer was not true in time; tells the last one.

    Examples
    --------
    >>> wait_until(lambda: shop.order(order).status == "COMPLETED")
    """
    answer = waiting.wait_until(probe, timeout, interval=interval)
    if not answer:
        raise WaitedTooLong(
            f"Waited {timeout:g} s for {what or 'it to be so'}; the last answer was {answer!r}.",
            next_step="`lab` shows whether every part runs; `lab.reset()` brings everything back to the course's start",
        )
    return cast(T, answer)
