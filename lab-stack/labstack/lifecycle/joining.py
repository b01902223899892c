"""Start Prometheus, Jaeger or Grafana in a running lab, if they were installed after the lab was started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labstack.backends.components import ControlPlane, Jaeger
from labstack.errors import LabError
from labstack.observability import observers
from labstack.progress import Progress
from labstack.state import StateStore

if TYPE_CHECKING:
    from labstack.lab import Lab


def join_observers(lab: Lab, progress: Progress) -> list[str]:
    """Start the observability components that were installed after the lab was started.

    No service, broker or database restarts. If istiod configures the gateway, it restarts for Jaeger; the gateway keeps
    its configuration meanwhile. With the container backend no component joins: the lab has its images from the start.

    Parameters
    ----------
    lab : Lab
        The running lab.
    progress : Progress
        Reports which component starts.

    Returns
    -------
    list of str
        Names of the components that have joined.

    Raises
    ------
    NotRunning, LabBusy
        The lab does not run, or another process is changing it for too long.
    """
    with lab.changing():
        store = StateStore(lab.paths)
        state = store.read()
        if not state.observed or state.mode != "local":
            return []
        available = observers.choose_observers(state.mode, lab.paths)
        # A lab that was started by an older version has no ports for them.
        new_observers = [name for name in available if name not in state.observers and name in state.ports]
        if not new_observers:
            return []
        state.observers = [name for name in observers.NAMES if name in {*state.observers, *new_observers}]
        store.write(state)
        return [name for name in new_observers if _join(lab, name, progress)]


def _join(lab: Lab, name: str, progress: Progress) -> bool:
    backend = lab.backend
    try:
        with progress.stage(name):
            backend.launch(name)
            backend.await_ready(name)
        backend.prepare_for_observer(name)
        if name == Jaeger.name:
            _enable_gateway_tracing(lab)
    except LabError as error:
        progress.report(f"the lab runs without {name}: {error.problem}")
        return False
    return True


def _enable_gateway_tracing(lab: Lab) -> None:
    """Make the gateway trace every request from now on."""
    backend = lab.backend
    if ControlPlane.name in backend.components():
        if backend.inspect(ControlPlane.name).state != "running":
            return  # the gateway traces after istiod's next start
        # istiod reads its own settings only at startup.
        backend.stop(ControlPlane.name)
        backend.launch(ControlPlane.name)
        backend.await_ready(ControlPlane.name)
    else:
        lab.mesh.refresh()
