"""The choice of a lab's backend: containers if Docker answers, else plain local processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, get_args

from labstack.errors import EngineUnavailable, LabError

Mode = Literal["local", "containers"]
MODES: tuple[Mode, ...] = get_args(Mode)
BINDER = ("BINDER_SERVICE_HOST", "BINDER_LAUNCH_HOST", "BINDER_REPO_URL")


@dataclass(frozen=True)
class ModeChoice:
    """A backend, and the reason for the choice."""

    mode: Mode
    reason: str

    def __str__(self) -> str:
        return f"{'Local' if self.mode == 'local' else 'Container'} mode: {self.reason.rstrip('.')}."


def checked_mode(mode: str) -> Mode:
    """Return the backend of that name.

    Raises
    ------
    LabError
        There is no such backend.
    """
    if mode not in MODES:
        raise LabError(f"There is no mode {mode!r}.", next_step=f"use one of {', '.join(MODES)}, or auto")
    return mode


def requested_mode(wanted: str | None = None) -> str:
    """Return the requested backend: the argument, else ``LAB_MODE``, else ``auto``."""
    return wanted or os.environ.get("LAB_MODE") or "auto"


def choose_mode(wanted: str | None = None) -> ModeChoice:
    """Choose the backend of a lab that is about to start.

    Parameters
    ----------
    wanted : str, optional
        ``local``, ``containers`` or ``auto``; default: ``LAB_MODE``, else ``auto``.

    Raises
    ------
    LabError
        There is no such backend, or containers are requested and Docker does not answer.
    """
    reason_given = "explicitly requested" if wanted else "set by LAB_MODE"
    wanted = requested_mode(wanted)
    if wanted != "auto":
        mode = checked_mode(wanted)
        if mode == "containers":
            _docker_version()
        return ModeChoice(mode, reason_given)
    if any(os.environ.get(name) for name in BINDER):
        return ModeChoice("local", "Binder has no Docker")
    try:
        return ModeChoice("containers", f"Docker {_docker_version()} answers")
    except EngineUnavailable as error:
        return ModeChoice("local", error.summary or error.problem)


def _docker_version() -> str:
    """Return the version of the Docker engine."""
    # Docker's client takes a while to import, so it is imported only where it is needed.
    from labstack.backends.docker.engine import engine, translate_errors

    with translate_errors("Docker's version can't be queried"):
        return str(engine().version()["Version"])
