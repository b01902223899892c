"""What watches the lab: Prometheus, Jaeger and Grafana, those of them that there are."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from labstack.errors import LabError, ProgramMissing
from labstack.paths import LabPaths

NAMES = ("prometheus", "jaeger", "grafana")
CHOICES = ("auto", "installed", "off")
THRIFT = {"GOGC": "300"}
"""Environment of those that are written in Go: with heaps this small they would collect garbage all the time."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Where components run that may be watched.

    Parameters
    ----------
    observed : bool
        Whether they tell what they do, in metrics and spans.
    observers : collection of str
        Those of Prometheus, Jaeger and Grafana that there are.
    """

    observed: bool = False
    observers: Collection[str] = ()

    @property
    def has_prometheus(self) -> bool:
        """Whether somebody reads metrics."""
        return "prometheus" in self.observers

    @property
    def has_jaeger(self) -> bool:
        """Whether the lab has Jaeger. Without it services write spans to a file, and the gateway exports none."""
        return "jaeger" in self.observers

    def spans_go_to(self, collector: str, file: str) -> dict[str, str]:
        """Return where a service's spans go, as settings of the service.

        Parameters
        ----------
        collector : str
            URL at which Jaeger takes them, now or later; empty where there will be no Jaeger.
        file : str
            The file for spans while no collector listens.
        """
        return {"otlp_endpoint": collector, "spans_file": file} if self.observed else {}


def is_observed() -> bool:
    """Return whether the parts of a lab tell what they do: always, unless ``LAB_OBSERVABILITY`` is ``off``.

    Raises
    ------
    LabError
        It is something else than one of `CHOICES`.
    """
    return _wanted() != "off"


def may_be_fetched() -> bool:
    """Return whether observers that are not on this machine may be fetched: ``LAB_OBSERVABILITY`` is ``auto``.

    Raises
    ------
    LabError
        It is something else than one of `CHOICES`.
    """
    return _wanted() == "auto"


def _wanted() -> str:
    wanted = os.environ.get("LAB_OBSERVABILITY") or "auto"
    if wanted not in CHOICES:
        raise LabError(f"LAB_OBSERVABILITY is {wanted!r}.", next_step=f"set it to one of {', '.join(CHOICES)}")
    return wanted


def choose_observers(mode: str, paths: LabPaths) -> list[str]:
    """Return the observers that a lab can have.

    Parameters
    ----------
    mode : str
        The lab's: containers have all of them, from their official images; what can't be pulled is left out later.
    paths : LabPaths
        Where local mode looks for installed programs.
    """
    if mode == "containers":
        return list(NAMES)
    from labstack.install import find_program

    return [name for name in NAMES if find_program(name, paths)]


def program(name: str, paths: LabPaths) -> Path:
    """Return the program of an observer.

    Raises
    ------
    ProgramMissing
        It was there when the lab was started, and is gone.
    """
    from labstack.install import find_program

    found = find_program(name, paths)
    if found is None:
        raise missing(name)
    return found.path


def missing(name: str) -> ProgramMissing:
    """Return the error that says how to get an observer."""
    return ProgramMissing(
        f"{name.capitalize()} is not on this machine.",
        next_step=f"`lab install {name}` gets it; then `lab up` takes it into the running lab",
    )
