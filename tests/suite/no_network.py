"""Run a command without a network: it sees only the loopback interface."""

from __future__ import annotations

import shutil
import subprocess

import pytest

WITHOUT_NETWORK = ["unshare", "--net", "sh", "-ec", 'ip link set lo up && exec "$@"', "alone"]
"""Prefix for a command that must run without a network."""


def _can_isolate_network() -> bool:
    if not all(map(shutil.which, ("unshare", "ip"))):
        return False
    return subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True).returncode == 0


needs_network_isolation = pytest.mark.skipif(
    not _can_isolate_network(), reason="this machine cannot isolate a process from the network"
)
