"""The exercises of the course: one module for each notebook."""

from __future__ import annotations

import importlib
from functools import cache

from labkit.exercises.base import Exercise

NOTEBOOKS = {
    "00": "saga.start_here",
    "01": "saga.one_order",
    "02": "saga.outbox",
    "03": "saga.compensations",
    "04": "saga.duplicates",
    "05": "saga.dead_letters",
    "06": "saga.dual_write",
    "07": "operations.routing",
    "08": "operations.resilience",
    "09": "operations.metrics",
    "10": "operations.tracing",
    "11": "operations.debezium",
    "12": "operations.load",
    "13": "operations.capstone",
    "14": "cluster.failures",
}
"""The module of each notebook's exercises."""

ON_CLUSTER = ("14",)
"""The notebooks that need a Kubernetes cluster. The certificate of the whole course does not require them."""


@cache
def course() -> dict[str, tuple[Exercise, ...]]:
    """Return all exercises by notebook, in the order of the notebook."""
    found: dict[str, tuple[Exercise, ...]] = {}
    for notebook, module in NOTEBOOKS.items():
        exercises: tuple[Exercise, ...] = importlib.import_module(f"labkit.exercises.{module}").EXERCISES
        found[notebook] = exercises
    return found
