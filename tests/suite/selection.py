"""Select the tests of a run: the short form, the long form, or a sample of the long tests.

A test marked ``long`` repeats a behaviour that a short test covers: another variant, a soak, a second backend.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest

from tests.suite.chance import LONG, SEED
from tests.suite.schedule import has_own_lab, pool_of
from tests.suite.seconds import Seconds


def sample_minutes() -> float:
    """Return the minutes of long tests to run instead of the short form; 0 for no sample."""
    return float(os.environ.get("SAGA_LAB_SAMPLE") or 0)


def choose(items: Sequence[pytest.Item], named: Sequence[str], seconds: Seconds) -> list[pytest.Item]:
    """Return the tests of this run, in their order.

    Parameters
    ----------
    items : sequence of Item
        The collected tests.
    named : sequence of str
        Arguments of the command line. A test named by its node id runs in every form.
    seconds : Seconds
        Expected duration of each test.
    """
    if sample_minutes():
        sampled = sample(items, sample_minutes() * 60, SEED, seconds)
        return [item for item in items if item in sampled]
    if LONG:
        return list(items)
    return [item for item in items if not is_long(item) or any(is_named(item, name) for name in named)]


def is_named(item: pytest.Item, name: str) -> bool:
    """Report whether an argument of the command line names this test by its node id."""
    file, separator, test = name.partition("::")
    if not separator or (item.config.invocation_params.dir / file).resolve() != item.path:
        return False
    own = item.nodeid.partition("::")[2]
    return own == test or own.startswith((f"{test}[", f"{test}::"))


def is_long(item: pytest.Item) -> bool:
    """Report whether a test is marked ``long``."""
    return item.get_closest_marker("long") is not None


WITH_LAB = 20.0
"""Minimum expected seconds of a long test that needs a lab and has no record."""


def sample(items: Sequence[pytest.Item], budget: float, seed: int, seconds: Seconds) -> set[pytest.Item]:
    """Return a sample of the long tests. The samples of successive seeds follow each other, so each test has its turn.

    Parameters
    ----------
    items : sequence of Item
        Every test.
    budget : float
        Maximum duration of the sample in seconds, by the records of earlier runs.
    seed : int
        Number of the sample. Each seed continues after the sample of the previous one.
    seconds : Seconds
        Expected duration of each test.
    """
    tests = sorted((item for item in items if is_long(item)), key=lambda item: item.nodeid)
    random.Random(0).shuffle(tests)  # neighbouring tests in a file have similar durations
    windows: list[list[pytest.Item]] = [[]]
    filled = 0.0
    for item in tests:
        cost = seconds.of(item.nodeid)
        if (pool_of(item) or has_own_lab(item)) and not seconds.has(item.nodeid):
            cost = max(cost, WITH_LAB)
        if windows[-1] and filled + cost > budget:
            windows.append([])
            filled = 0.0
        windows[-1].append(item)
        filled += cost
    return set(windows[seed % len(windows)])
