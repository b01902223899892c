"""Restart the components that a learner or an interrupted lesson has stopped."""

from __future__ import annotations

from collections.abc import Callable

from labstack import Lab
from labstack.progress import Progress


def restart_stopped(lab: Lab, listen: Callable[[Progress], None] | None = None) -> list[str]:
    """Start every component that is not running, and return their names, without additional versions of a service.

    Parameters
    ----------
    lab : Lab
        The lab, running or not.
    listen : callable, optional
        Called while components start.

    Raises
    ------
    RelayFailed
        A connector lost its position in the write-ahead log; only a reset may discard that position.
    """
    components = lab.status(memory=False).components
    versions = lab.endpoints.versions
    for name, component in components.items():
        if component.state == "paused":
            lab.faults.resume(name)
        elif name in versions and component.state == "failed":
            lab.stop(name)  # an additional version that a lesson has killed stays down
    lab.up(listen)
    return [name for name, component in components.items() if component.state != "running" and name not in versions]
