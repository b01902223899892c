"""The `lab` command, attached to the chart on a test cluster (``LAB_MODE=kubernetes``)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from tests.cluster.cluster import Cluster


def environment(cluster: Cluster) -> dict[str, str]:
    """Return the environment of a program that uses the lab on the cluster."""
    return {**cluster.environment, "LAB_MODE": "kubernetes", "XDG_STATE_HOME": str(cluster.home / "state")}


def lab(cluster: Cluster, *arguments: str, check: bool = True, timeout: float = 600) -> str:
    """Run a command of the lab in the cluster's network, and return its output.

    Parameters
    ----------
    cluster : Cluster
        The cluster.
    arguments : str
        The command and its options.
    check : bool
        Whether a failed command fails the test.
    timeout : float
        Seconds after which the command is ended.
    """
    done = subprocess.run(
        cluster.in_network([sys.executable, "-m", "labstack.cli", *arguments]),
        env=environment(cluster),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    output = done.stdout + done.stderr
    assert not check or done.returncode == 0, f"lab {' '.join(arguments)} failed:\n{output}"
    return output


def run_python(cluster: Cluster, program: str) -> Any:
    """Run a Python program that uses the lab, and return its standard output."""
    done = subprocess.run(
        cluster.in_network([sys.executable, "-c", program]),
        env=environment(cluster),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
