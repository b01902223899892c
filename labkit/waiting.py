"""Waiting for a condition by polling, instead of sleeping for a fixed time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from labkit.errors import WaitTimedOut
from labstack import waiting
from labstack.arguments import Positive, Seconds, checked
from labstack.lifecycle.report import busy

T = TypeVar("T")


@checked
def wait_until(probe: Callable[[], T], timeout: Seconds = 30, *, what: str = "", interval: Positive = 0.05) -> T:
    """Poll a probe until it returns a true value, and return that value.

    Parameters
    ----------
    probe : callable
        Returns the value. Its exceptions propagate.
    timeout : float
        Seconds, at most.
    what : str
        The condition in words, for the message.
    interval : float
        Seconds between two calls.

    Raises
    ------
    WaitTimedOut
        The probe returned no true value in time; the message contains the last value, and what does not run.

    Examples
    --------
    >>> wait_until(lambda: shop.order(order).status == "COMPLETED")
    """
    with busy(f"waiting for {what or 'the condition'}"):
        answer = waiting.poll_until(probe, timeout, interval=interval)
    if not answer:
        raise WaitTimedOut(
            f"Waited {timeout:g} s for {what or 'the condition'}; the last result was {answer!r}.",
            next_step="`lab` shows the state of each component; `lab.reset()` restores the initial data, and ends an "
            "exercise in progress",
        )
    return cast(T, answer)
