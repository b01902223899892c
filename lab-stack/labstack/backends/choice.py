"""The choice of a lab's backend: containers if Docker answers, else local processes; a cluster only on request."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from labstack.errors import ClusterUnavailable, EngineUnavailable, LabError, one_of
from labstack.gateway.choice import choose_control_plane
from labstack.observability import observers
from labstack.progress import Progress

if TYPE_CHECKING:  # `lab --help` imports this module, and needs no backend
    from labstack.backends.access import LabAccess
    from labstack.backends.base import Backend

Mode = Literal["local", "containers", "kubernetes"]
MODES: tuple[Mode, ...] = get_args(Mode)
TITLES: dict[Mode, str] = {"local": "Local", "containers": "Container", "kubernetes": "Kubernetes"}
BINDER = ("BINDER_SERVICE_HOST", "BINDER_LAUNCH_HOST", "BINDER_REPO_URL")


@dataclass(frozen=True)
class ModeChoice:
    """A backend, and the reason for the choice."""

    mode: Mode
    reason: str

    def __str__(self) -> str:
        return f"{TITLES[self.mode]} mode: {self.reason.rstrip('.')}."


def checked_mode(mode: str) -> Mode:
    """Return the backend of that name.

    Raises
    ------
    LabError
        The backend does not exist.
    """
    if mode not in MODES:
        raise LabError(f"Unknown mode {mode!r}.", next_step=one_of(mode, [*MODES, "auto"]))
    return mode


def requested_mode(wanted: str | None = None) -> str:
    """Return the requested backend: the argument, else ``LAB_MODE``, else ``auto``."""
    return wanted or os.environ.get("LAB_MODE") or "auto"


def choose_mode(wanted: str | None = None) -> ModeChoice:
    """Choose the backend of a lab that is about to start.

    Parameters
    ----------
    wanted : str, optional
        ``local``, ``containers``, ``kubernetes`` or ``auto``, which never chooses a cluster; default: ``LAB_MODE``,
        else ``auto``.

    Raises
    ------
    LabError
        The backend does not exist, or containers are requested and Docker does not answer.
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


def choose_backend(access: LabAccess, progress: Progress, *, without_containers: bool = False) -> Backend:
    """Choose the backend of a lab that does not run; a running lab keeps its own.

    Call it inside a block of `LabAccess.exclusive`.

    Parameters
    ----------
    access : LabAccess
        Access to the lab.
    progress : Progress
        Reports the choice.
    without_containers : bool
        Whether containers have failed on this machine.

    Raises
    ------
    LabError
        The running lab has another backend than requested, or Docker is unavailable and can't report whether the lab
        runs.
    """
    backend, wanted = access.backend(), access.wanted_mode
    state = backend.state
    if state.phase != "stopped" and any_component_runs(backend, wanted):
        if wanted not in (None, "auto", state.mode):
            raise LabError(
                f"The lab runs in {state.mode} mode, but {wanted!r} was requested.",
                next_step="run `lab down` first, or use a lab of another name (LAB_NAME)",
            )
        return backend
    failed = ModeChoice("local", "containers failed on this machine")
    choice = failed if without_containers else choose_mode(wanted)
    progress.report(str(choice))
    observed = observers.is_observed()
    backend.update(
        mode=choice.mode,
        control_plane=choose_control_plane(choice.mode, access.paths),
        observed=observed,
        observers=observers.choose_observers(choice.mode, access.paths) if observed else [],
    )
    return access.reopen()


def any_component_runs(backend: Backend, wanted_mode: str | None) -> bool:
    """Report whether any component of the lab runs.

    Raises
    ------
    EngineUnavailable
        Docker does not answer, and the local backend is not requested explicitly.
    """
    try:
        return any(backend.inspect(name).state in ("running", "paused") for name in backend.components())
    except EngineUnavailable:
        # An explicit request for the local backend abandons containers that Docker may still hold.
        if requested_mode(wanted_mode) == "local":
            return False
        raise
    except ClusterUnavailable:
        # A cluster that is gone must not block the change to another mode.
        if requested_mode(wanted_mode) in ("local", "containers"):
            backend.down()
            return False
        raise


def _docker_version() -> str:
    """Return the version of the Docker engine."""
    # Docker's client takes a while to import, so it is imported only where it is needed.
    from labstack.backends.docker.engine import engine, translate_errors

    with translate_errors("Docker's version can't be queried"):
        return str(engine().version()["Version"])
