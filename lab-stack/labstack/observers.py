"""What watches the lab: Prometheus, Jaeger and Grafana, those of them that there are."""

from __future__ import annotations

import os
from pathlib import Path

from labstack.errors import LabError, ProgramMissing
from labstack.paths import LabPaths

NAMES = ("prometheus", "jaeger", "grafana")
CHOICES = ("auto", "off")


def is_observed() -> bool:
    """Return whether the parts of a lab tell what they do: ``LAB_OBSERVABILITY`` is ``auto`` (the default) or ``off``.

    Raises
    ------
    LabError
        It is something else.
    """
    wanted = os.environ.get("LAB_OBSERVABILITY") or "auto"
    if wanted not in CHOICES:
        raise LabError(f"LAB_OBSERVABILITY is {wanted!r}.", next_step=f"set it to one of {', '.join(CHOICES)}")
    return wanted == "auto"


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
        next_step=f"`lab install {name}` gets it; then `lab down` and `lab up` take it in",
    )
