"""Selection of the gateway's control plane: istiod where it is available, otherwise the lab's translator."""

from __future__ import annotations

import os
import sys

from labstack.config.paths import LabPaths
from labstack.errors import LabError, one_of
from labstack.gateway import istiod

NAMES = {
    "istiod": f"istiod {istiod.VERSION}",
    "translator": "the lab's translator",
    "cluster": "the cluster's istiod",
}
"""Display names of the control planes."""

CHOICES = ("auto", "istiod", "translator")


def istiod_is_allowed() -> bool:
    """Report whether a lab on this machine would use istiod if it were installed."""
    return sys.platform == "linux" and (os.environ.get("LAB_CONTROL_PLANE") or "auto") != "translator"


def choose_control_plane(mode: str, paths: LabPaths) -> str:
    """Return ``istiod``, ``translator``, or ``cluster`` for the istiod that a cluster already has.

    Parameters
    ----------
    mode : str
        The lab's backend. With ``containers``, ``auto`` selects istiod from its official image. With ``kubernetes``,
        the result is ``cluster``.
    paths : LabPaths
        The lab's folders, in which the local backend looks for an installed istiod.

    Raises
    ------
    LabError
        ``LAB_CONTROL_PLANE`` is not one of `CHOICES`.
    ProgramMissing
        ``LAB_CONTROL_PLANE`` is ``istiod``, but istiod is not installed on this machine.
    """
    wanted = os.environ.get("LAB_CONTROL_PLANE") or "auto"
    if wanted not in CHOICES:
        raise LabError(f"LAB_CONTROL_PLANE has the unknown value {wanted!r}.", next_step=one_of(wanted, CHOICES))
    if mode == "kubernetes":
        return "cluster"
    if wanted == "translator":
        return wanted
    if mode == "containers":
        return "istiod"
    from labstack.install import find_program

    if find_program("istiod", paths):
        return "istiod"
    if wanted == "istiod":
        raise istiod.missing()
    return "translator"
