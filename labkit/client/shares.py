"""Shares and chance: whether a number of hits is compatible with a share.

The interval is Clopper and Pearson's. It excludes a share under which so few hits, or so many, are too unlikely. The
probabilities come from the binomial distribution, without approximation (https://doi.org/10.1093/biomet/26.4.404).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from labkit.errors import KitError
from labstack.arguments import Portion, checked

CONFIDENCE = 0.9999
"""The confidence level: the probability that the interval misses the true share is at most one in ten thousand."""


Requests = Annotated[int, Field(ge=0, le=100_000)]
"""A number of requests; the exact intervals take a sum over all of them."""


@checked
def is_plausible(hits: Requests, times: Requests, share: Portion, confidence: Portion = CONFIDENCE) -> bool:
    """Return whether a number of hits is compatible with a share.

    Parameters
    ----------
    hits, times : int
        The number of hits, and the number of trials.
    share : float
        From 0 to 1.
    confidence : float
        The confidence level of the test, from 0 to 1.
    """
    _require(hits, times)
    tail = (1 - confidence) / 2
    return at_most(hits, times, share) > tail and at_least(hits, times, share) > tail


@checked
def interval(hits: Requests, times: Requests, confidence: Portion = CONFIDENCE) -> tuple[float, float]:
    """Return the lowest and the highest share that are compatible with a number of hits."""
    _require(hits, times)
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _turn(lambda share: at_least(hits, times, share) > tail)
    high = 1.0 if hits == times else _turn(lambda share: at_most(hits, times, share) <= tail)
    return low, high


def at_most(hits: int, times: int, share: float) -> float:
    """Return the probability of at most `hits` hits under a share."""
    return math.fsum(_exactly(k, times, share) for k in range(hits + 1))


def at_least(hits: int, times: int, share: float) -> float:
    """Return the probability of at least `hits` hits under a share."""
    return math.fsum(_exactly(k, times, share) for k in range(hits, times + 1))


def _exactly(hits: int, times: int, share: float) -> float:
    if share in (0, 1):
        return float(hits == times * share)
    ways = math.lgamma(times + 1) - math.lgamma(hits + 1) - math.lgamma(times - hits + 1)
    return math.exp(ways + hits * math.log(share) + (times - hits) * math.log1p(-share))


def _turn(is_beyond: Callable[[float], bool]) -> float:
    """Find, by bisection, the lowest share for which the predicate is true."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if is_beyond(middle) else (middle, high)
    return high


def _require(hits: int, times: int) -> None:
    if not 0 <= hits <= times or times == 0:
        raise KitError(
            f"{hits} hits of {times} are no share.", next_step="pass 0 to `times` hits, of at least one request"
        )
