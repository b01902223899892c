"""Which control plane steers the gateway: istiod where it is, else the lab's translator."""

from __future__ import annotations

import os

from labstack.errors import LabError
from labstack.mesh import istiod
from labstack.paths import LabPaths

NAMES = {"istiod": f"istiod {istiod.VERSION}", "translator": "the lab's translator"}
"""The control planes, as people read of them."""

CHOICES = ("auto", "istiod", "translator")


def choose_control_plane(mode: str, paths: LabPaths) -> str:
    """Return ``istiod`` or ``translator``.

    Parameters
    ----------
    mode : str
        The lab's: containers always have istiod, from its official image.
    paths : LabPaths
        Where local mode looks for an installed istiod.

    Raises
    ------
    LabError
        ``LAB_CONTROL_PLANE`` names none, or one that this mode can't have.
    ProgramMissing
        istiod is asked for, and not on this machine.
    """
    wanted = os.environ.get("LAB_CONTROL_PLANE") or "auto"
    if wanted not in CHOICES:
        raise LabError(f"LAB_CONTROL_PLANE is {wanted!r}.", next_step=f"set it to one of {', '.join(CHOICES)}")
    if mode == "containers":
        if wanted == "translator":
            raise LabError(
                "In container mode istiod steers the gateway; LAB_CONTROL_PLANE asks for the translator.",
                next_step="unset LAB_CONTROL_PLANE, or use local mode: LAB_MODE=local",
            )
        return "istiod"
    if wanted == "translator":
        return wanted
    from labstack.install import find_program

    if find_program("istiod", paths):
        return "istiod"
    if wanted == "istiod":
        raise istiod.missing()
    return "translator"
