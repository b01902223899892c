"""A machine that no network reaches: what runs there sees no interface but loopback."""

from __future__ import annotations

import shutil
import subprocess

import pytest

ALONE = ["unshare", "--net", "sh", "-ec", 'ip link set lo up && exec "$@"', "alone"]
"""Stands before a command that shall run so."""


def _can_be_alone() -> bool:
    if not all(map(shutil.which, ("unshare", "ip"))):
        return False
    return subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0


needs_to_be_alone = pytest.mark.skipif(
    not _can_be_alone(), reason="this machine lets nobody cut a process off from the network"
)
