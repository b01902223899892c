"""The observers of a lab, such as Prometheus: which are wanted, and which are installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from labstack.config.paths import LabPaths
from labstack.errors import LabError, ProgramMissing, one_of
from labstack.gateway.addresses import Addresses

NAMES = ("prometheus", "alertmanager", "jaeger", "grafana")
"""The observers, in the order of their download.

Each has an entry in ``versions.toml``, and each backend has its class in a module of the same name.
"""
CHOICES = ("auto", "installed", "off")
GO_SETTINGS = {"GOGC": "300"}
"""Environment of the observers written in Go. With heaps this small they would otherwise collect garbage constantly."""


@dataclass(frozen=True, kw_only=True)
class ObservabilitySettings:
    """The observability settings of the components of a lab.

    Parameters
    ----------
    observed : bool
        Whether the components publish metrics and spans.
    observers : collection of str
        The observers that the lab has, among `NAMES`.
    addresses : callable
        Returns the addresses of the services' instances, which Prometheus scrapes.
    """

    observed: bool = False
    observers: Collection[str] = ()
    addresses: Callable[[], Addresses] = lambda: Addresses(0, "", {})

    @property
    def has_prometheus(self) -> bool:
        """Whether the lab has Prometheus, which scrapes metrics."""
        return "prometheus" in self.observers

    @property
    def has_jaeger(self) -> bool:
        """Whether the lab has Jaeger. Without Jaeger, services write spans to a file and the gateway exports none."""
        return "jaeger" in self.observers

    def span_settings(self, collector: str, file: str) -> dict[str, str]:
        """Return the service settings that select the destination of its spans.

        Parameters
        ----------
        collector : str
            URL at which Jaeger accepts spans, now or later; empty if the lab will have no Jaeger.
        file : str
            The file for spans while no collector listens.

        Returns
        -------
        dict of str to str
            Empty if the lab is not observed.
        """
        return {"otlp_endpoint": collector, "spans_file": file} if self.observed else {}


def is_observed() -> bool:
    """Return whether the components of a lab publish metrics and spans: unless ``LAB_OBSERVABILITY`` is ``off``.

    Raises
    ------
    LabError
        The environment variable is not one of `CHOICES`.
    """
    return _wanted() != "off"


def downloads_allowed() -> bool:
    """Return whether missing observers may be downloaded: ``LAB_OBSERVABILITY`` is ``auto``.

    Raises
    ------
    LabError
        The environment variable is not one of `CHOICES`.
    """
    return _wanted() == "auto"


def _wanted() -> str:
    wanted = os.environ.get("LAB_OBSERVABILITY") or "auto"
    if wanted not in CHOICES:
        raise LabError(f"LAB_OBSERVABILITY has the unknown value {wanted!r}.", next_step=one_of(wanted, CHOICES))
    return wanted


def choose_observers(mode: str, paths: LabPaths) -> list[str]:
    """Return the names of the observers that a lab can run.

    Parameters
    ----------
    mode : str
        Backend of the lab. With containers the lab can run every observer from its official image; an observer whose
        image can't be pulled is left out later. On a cluster, the chart's values decide, and the backend finds out.
    paths : LabPaths
        Where the local backend looks for installed programs.
    """
    if mode == "containers":
        return list(NAMES)
    if mode == "kubernetes":
        return []
    from labstack.install import find_program

    return [name for name in NAMES if find_program(name, paths)]


def program(name: str, paths: LabPaths) -> Path:
    """Return the path of an observer's program.

    Raises
    ------
    ProgramMissing
        The program was installed when the lab started, and has been removed since.
    """
    from labstack.install import find_program

    found = find_program(name, paths)
    if found is None:
        raise missing(name)
    return found.path


def missing(name: str) -> ProgramMissing:
    """Return the error that explains how to install a missing observer."""
    return ProgramMissing(
        f"{name.capitalize()} is not installed.",
        next_step=f"run `lab install {name}`, then `lab up` to add it to the running lab",
    )
