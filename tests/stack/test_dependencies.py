"""Startup waits and the shutdown order follow from the dependencies that the components declare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError
from pathlib import Path

import pytest

from labstack import Lab
from labstack.backends.dependencies import Condition, shutdown_stages, startup_waits
from labstack.config.paths import LabPaths
from labstack.lab import access_of


@dataclass
class Node:
    name: str
    depends_on: Mapping[str, Condition] = field(default_factory=dict)


def test_dependents_stop_first() -> None:
    """A component stops in a later stage than every component that depends on it; unknown names are ignored."""
    nodes = [
        Node("db"),
        Node("api", {"db": "started", "kafka": "ready"}),
        Node("kafka"),
        Node("map", {"other": "ready"}),
    ]
    assert shutdown_stages(nodes) == [["api", "map"], ["db", "kafka"]]


def test_component_waits_for_ready_dependencies_only() -> None:
    """At its start, a component waits for the dependencies that must be ready, if the lab has them."""
    api = Node("api", {"db": "started", "kafka": "ready", "istiod": "ready"})
    assert startup_waits(api, ["api", "db", "kafka"]) == ["kafka"]


def test_circular_dependency_is_an_error() -> None:
    """Components that depend on each other have no shutdown order."""
    with pytest.raises(CycleError):
        shutdown_stages([Node("a", {"b": "started"}), Node("b", {"a": "started"})])


def test_writers_of_the_lab_stop_before_what_they_write_to(tmp_path: Path) -> None:
    """Each component of the lab stops once: services and Connect before the broker and the databases."""
    backend = access_of(Lab(paths=LabPaths(tmp_path / "state", tmp_path / "cache"))).backend()
    stages = shutdown_stages([backend.component(name) for name in backend.components()])
    position = {name: number for number, stage in enumerate(stages) for name in stage}
    assert sorted(position) == sorted(backend.components())
    assert position["connect-watcher"] < position["connect"] < min(position["kafka"], position["order-db"])
    assert max(position[name] for name in ("order", "inventory", "payment", "shipping")) < position["kafka"]
