"""The dependency graph of the components: startup waits and the shutdown order follow from it, as in Docker Compose.

https://github.com/docker/compose/blob/main/pkg/compose/dependencies.go
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from typing import Literal, Protocol

Condition = Literal["started", "ready"]
"""The state of a dependency for which a component waits.

``ready``: the component starts when the dependency is ready. ``started``: both may start at the same time; with
containers, the dependency's container starts first. Both determine the order of the shutdown.
"""


class HasDependencies(Protocol):
    """A component, as far as the graph needs it."""

    name: str

    @property
    def depends_on(self) -> Mapping[str, Condition]:
        """The components that this one uses, each with the state that it waits for at its start."""


def startup_waits(component: HasDependencies, known: Iterable[str]) -> list[str]:
    """Return the components that must be ready before this one starts.

    Parameters
    ----------
    component : Component
        The component.
    known : iterable of str
        The components that the lab has; dependencies on others are ignored.
    """
    there = set(known)
    return [name for name, condition in component.depends_on.items() if condition == "ready" and name in there]


def shutdown_stages(components: Iterable[HasDependencies]) -> list[list[str]]:
    """Return the components by stages: each stage stops after all components that depend on it have stopped.

    Raises
    ------
    graphlib.CycleError
        If the components depend on each other in a circle.
    """
    every = list(components)
    dependents: dict[str, set[str]] = {component.name: set() for component in every}
    for component in every:
        for dependency in component.depends_on:
            if dependency in dependents:
                dependents[dependency].add(component.name)
    sorter = TopologicalSorter(dependents)
    sorter.prepare()
    stages: list[list[str]] = []
    while sorter.is_active():
        stage = sorter.get_ready()
        stages.append(sorted(stage))
        sorter.done(*stage)
    return stages
