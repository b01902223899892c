"""The exercises of the course: one module for each notebook."""

from __future__ import annotations

import importlib
from functools import cache

from labkit.exercises.base import Exercise

NOTEBOOKS = {
    "00": "start_here",
    "01": "one_order",
    "02": "outbox",
    "03": "compensations",
    "04": "duplicates",
    "05": "dead_letters",
    "06": "dual_write",
    "07": "routing",
    "08": "resilience",
    "09": "metrics",
    "10": "tracing",
    "11": "debezium",
    "12": "load",
    "13": "capstone",
}
"""The module of each notebook's exercises."""


@cache
def course() -> dict[str, tuple[Exercise, ...]]:
    """Return all exercises by notebook, in the order of the notebook."""
    found: dict[str, tuple[Exercise, ...]] = {}
    for notebook, module in NOTEBOOKS.items():
        exercises: tuple[Exercise, ...] = importlib.import_module(f"labkit.exercises.{module}").EXERCISES
        found[notebook] = exercises
    return found
