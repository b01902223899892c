"""Run a command without a network: it sees only the loopback interface."""

from __future__ import annotations

import shutil
import subprocess

import pytest

ALONE = ["unshare", "--net", "sh", "-ec", 'ip link set lo up && exec "$@"', "alone"]
"""Prefix for a command that must run without a network."""


def _can_be_alone() -> bool:
    if not all(map(shutil.which, ("unshare", "ip"))):
        return False
    return subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0


needs_to_be_alone = pytest.mark.skipif(
    not _can_be_alone(), reason="this machine lets nobody cut a process off from the network"
)
