"""Bringing back what a notebook needs and a learner, or a lesson that was left in its middle, has stopped."""

from __future__ import annotations

from collections.abc import Callable

from labstack import Lab
from labstack.progress import Progress


def bring_back(lab: Lab, listen: Callable[[Progress], None] | None = None) -> list[str]:
    """Let every part run again, and return which did not, a further version of a service apart.

    Parameters
    ----------
    lab : Lab
        Running, or not.
    listen : callable, optional
        Called while parts start.

    Raises
    ------
    RelayFailed
        A connector has lost its place in the log, which only a reset may give up.
    """
    components = lab.status(memory=False).components
    versions = lab.endpoints.versions
    for name, component in components.items():
        if component.state == "paused":
            lab.resume(name)
        elif name in versions and component.state == "failed":
            lab.stop(name)  # nobody wants a further version back that a lesson has killed
    lab.up(listen)
    return [name for name, component in components.items() if component.state != "running" and name not in versions]
