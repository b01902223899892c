"""Download Debian packages without installing them: apt verifies them, dpkg unpacks them, and root is not needed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from labstack.config import environment
from labstack.errors import DownloadFailed, ProgramMissing

TOOLS = ("apt-get", "dpkg-deb")
TOOL_TIMEOUT = 300.0
"""Timeout of a Debian tool in seconds."""


def download(packages: Sequence[str], folder: Path) -> list[Path]:
    """Download packages into a folder. apt verifies them against the distribution's signed lists.

    If the machine's lists are missing or old, apt downloads the current ones into a temporary folder. The machine's
    lists stay unchanged.

    Parameters
    ----------
    packages : sequence of str
        Names of the packages.
    folder : Path
        Target folder.

    Returns
    -------
    list of Path
        The downloaded files.

    Raises
    ------
    ProgramMissing
        If the system has no apt.
    DownloadFailed
        If apt can't download one of the packages.
    """
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        raise ProgramMissing(f"this system is not based on Debian: {' and '.join(missing)} not found")
    try:
        run(["apt-get", "-q", "download", *packages], folder)
    except DownloadFailed:
        with tempfile.TemporaryDirectory(prefix="saga-lab-apt-") as lists:
            options = _private_lists(Path(lists))
            run(["apt-get", *options, "-qq", "update"], folder)
            run(["apt-get", *options, "-q", "download", *packages], folder)
    return sorted(folder.glob("*.deb"))


def run(argv: list[str], folder: Path) -> str:
    """Run a Debian tool in a folder, and return its standard output.

    Raises
    ------
    DownloadFailed
        If the tool fails. The message quotes the tool's error.
    """
    try:
        done = environment.run(argv, cwd=folder, timeout=TOOL_TIMEOUT, downloads=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DownloadFailed(f"{argv[0]} failed: {error}") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise DownloadFailed(
            f"{argv[0]} failed: {errors[0][2:].strip() if errors else done.stderr.strip()[-200:]}",
            next_step="check the network and /etc/apt/sources.list",
        )
    return done.stdout


def _private_lists(folder: Path) -> list[str]:
    """Return apt's options for package lists and a cache below `folder`; see apt.conf(5), Dir::State and Dir::Cache."""
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    return [
        *("-o", f"Dir::State={folder}/state"),
        *("-o", f"Dir::State::lists={folder}/state/lists"),
        *("-o", "Dir::State::status=/var/lib/dpkg/status"),
        *("-o", f"Dir::Cache={folder}/cache"),
        *("-o", f"Dir::Cache::archives={folder}/cache/archives"),
    ]
