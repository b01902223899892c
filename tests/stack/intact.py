"""Whether a test left something in a lab that the next test would notice."""

from __future__ import annotations

from labstack import Lab
from labstack.gateway.store import MeshStore
from labstack.lab import access_of


def is_intact(lab: Lab) -> bool:
    """Report whether a lab is ready, and neither a fault nor a change of its configuration is left in it.

    Its orders may differ from those at the start of the course.
    """
    paths = access_of(lab).paths
    status = lab.status(memory=False)
    is_healthy = status.state == "ready" and not status.complaints and not status.switches
    is_usual = MeshStore(paths).is_own and not paths.scenario_file.exists()
    return is_healthy and is_usual and not lab.endpoints.versions and not lab.dead_letters.all()
