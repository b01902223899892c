"""The seed of this run, and whether it is the short or the long form of the suite."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from datetime import date
from typing import Any

import pytest

SEED = int(os.environ.get("SAGA_LAB_SEED") or date.today().toordinal())
LONG = bool(os.environ.get("SAGA_LAB_LONG"))


def short_sample(values: Iterable[Any], keep: int) -> list[Any]:
    """Return every value as a test parameter, and mark all but a seeded sample as ``long``.

    Parameters
    ----------
    values : iterable
        The values of one parameter, or tuples for several parameters.
    keep : int
        Number of values in the short form of the suite.

    Returns
    -------
    list of ParameterSet
        In the order of `values`.
    """
    every = list(values)
    kept = set(random.Random(SEED).sample(range(len(every)), min(keep, len(every))))
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)), marks=() if place in kept else (pytest.mark.long,)
        )
        for place, value in enumerate(every)
    ]
