"""Keep the mesh and the observers current while components join a running lab, or leave it."""

from __future__ import annotations

from labstack.backends.access import LabAccess
from labstack.backends.base import Backend
from labstack.backends.components import ControlPlane, Jaeger
from labstack.errors import LabError
from labstack.lifecycle.mesh import Mesh
from labstack.observability import observers
from labstack.progress import Progress


def join_observers(access: LabAccess, progress: Progress) -> list[str]:
    """Start the observability components that were installed after the lab was started.

    No service, broker or database restarts. A running istiod restarts when Jaeger joins; the gateway keeps its
    configuration meanwhile. With the container backend no component joins: the lab has its images from the start.

    Parameters
    ----------
    access : LabAccess
        Access to the running lab.
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
    with access.changing() as backend:
        state = backend.state
        if not state.observed or state.mode != "local":
            return []
        available = observers.choose_observers(state.mode, access.paths)
        # A lab that was started by an older version has no ports for them.
        new_observers = [name for name in available if name not in state.observers and name in state.ports]
        if not new_observers:
            return []
        known = {*state.observers, *new_observers}
        backend.update(observers=[name for name in observers.NAMES if name in known])
        return [name for name in new_observers if _join(access, backend, name, progress)]


def _join(access: LabAccess, backend: Backend, name: str, progress: Progress) -> bool:
    try:
        with progress.stage(name):
            backend.launch(name)
            backend.await_ready(name)
        backend.prepare_for_observer(name)
        settle_observers(backend)
        if name == Jaeger.name:
            _enable_gateway_tracing(access, backend)
    except LabError as error:
        progress.report(f"the lab runs without {name}: {error.problem}")
        return False
    return True


def refresh_after_version_change(access: LabAccess, backend: Backend, name: str) -> None:
    """Update the mesh and Prometheus after an additional version of a service has started or stopped."""
    if not backend.component(name).optional:
        return
    Mesh(access).refresh()
    settle_observers(backend)


def settle_observers(backend: Backend) -> None:
    """Give the running observers the current list of service instances and observers."""
    for observer in backend.observers():
        if backend.inspect(observer).state == "running":
            backend.component(observer).settle()


def _enable_gateway_tracing(access: LabAccess, backend: Backend) -> None:
    """Make the gateway trace every request from now on."""
    if ControlPlane.name in backend.components():
        if backend.inspect(ControlPlane.name).state != "running":
            return  # the gateway traces after istiod's next start
        # istiod reads its own settings only at startup.
        backend.stop(ControlPlane.name)
        backend.launch(ControlPlane.name)
        backend.await_ready(ControlPlane.name)
    else:
        Mesh(access).refresh()
