"""Which tests a run takes: the short form, the long one, or a sample of what only the long form has.

A test that is marked ``long`` repeats a behaviour that a short test covers: another variant, a soak, a second backend.
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
    """Return how many minutes of long tests this run takes instead of the short form; 0 for none."""
    return float(os.environ.get("SAGA_LAB_SAMPLE") or 0)


def choose(items: Sequence[pytest.Item], named: Sequence[str], seconds: Seconds) -> list[pytest.Item]:
    """Return the tests of this run, in their order.

    Parameters
    ----------
    items : sequence of Item
        What pytest has collected.
    named : sequence of str
        What the command line asks for. A test that it names by its node id runs in every form.
    seconds : Seconds
        How long each test takes.
    """
    if sample_minutes():
        sampled = sample(items, sample_minutes() * 60, SEED, seconds)
        return [item for item in items if item in sampled]
    if LONG:
        return list(items)
    return [item for item in items if not is_long(item) or any(is_named(item, name) for name in named)]


def is_named(item: pytest.Item, name: str) -> bool:
    """Return whether a word of the command line names this very test, by its node id."""
    file, separator, test = name.partition("::")
    if not separator or (item.config.invocation_params.dir / file).resolve() != item.path:
        return False
    own = item.nodeid.partition("::")[2]
    return own == test or own.startswith((f"{test}[", f"{test}::"))


def is_long(item: pytest.Item) -> bool:
    """Return whether only the long form of the suite has this test."""
    return item.get_closest_marker("long") is not None


WITH_LAB = 20.0
"""Seconds that a long test is expected to take that needs a lab and was not recorded yet."""


def sample(items: Sequence[pytest.Item], budget: float, seed: int, seconds: Seconds) -> set[pytest.Item]:
    """Return a sample of the long tests; the samples of successive seeds follow each other, so each test has its turn.

    Parameters
    ----------
    items : sequence of Item
        Every test.
    budget : float
        Seconds that the sample may take, by what earlier runs took.
    seed : int
        Where the sample begins: every seed takes up where the one before it ended.
    seconds : Seconds
        How long each test takes.
    """
    tests = sorted((item for item in items if is_long(item)), key=lambda item: item.nodeid)
    random.Random(0).shuffle(tests)  # neighbours in a file cost alike
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
