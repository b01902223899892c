"""Which control plane steers the gateway: istiod where it is, else the lab's translator."""

from __future__ import annotations

import os
import sys

from labstack.errors import LabError
from labstack.mesh import istiod
from labstack.paths import LabPaths

NAMES = {"istiod": f"istiod {istiod.VERSION}", "translator": "the lab's translator"}
"""The control planes, as people read of them."""

CHOICES = ("auto", "istiod", "translator")


def istiod_is_welcome() -> bool:
    """Return whether a lab on this machine would let istiod steer the gateway, if it had it."""
    return sys.platform == "linux" and (os.environ.get("LAB_CONTROL_PLANE") or "auto") != "translator"


def choose_control_plane(mode: str, paths: LabPaths) -> str:
    """Return ``istiod`` or ``translator``.

    Parameters
    ----------
    mode : str
        The lab's. In containers ``auto`` is istiod, from its official image.
    paths : LabPaths
        Where local mode looks for an installed istiod.

    Raises
    ------
    LabError
        ``LAB_CONTROL_PLANE`` names none.
    ProgramMissing
        istiod is asked for, and not on this machine.
    """
    wanted = os.environ.get("LAB_CONTROL_PLANE") or "auto"
    if wanted not in CHOICES:
        raise LabError(f"LAB_CONTROL_PLANE is {wanted!r}.", next_step=f"set it to one of {', '.join(CHOICES)}")
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
