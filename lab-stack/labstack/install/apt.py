"""Packages of Debian, fetched without installing them: apt checks them, dpkg unpacks them, and root is not needed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from labstack.errors import DownloadFailed, ProgramMissing

TOOLS = ("apt-get", "dpkg-deb")
PATIENCE = 300.0
"""Seconds that apt may take."""


def download(packages: Sequence[str], folder: Path) -> list[Path]:
    """Download packages into a folder; apt holds them to the distribution's signed lists.

    A machine's own lists may be missing or old. Then the current ones are fetched into a temporary folder, and the
    machine's stay as they are.

    Parameters
    ----------
    packages : sequence of str
        Their names.
    folder : Path
        Where the files go.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ProgramMissing
        The system has no apt.
    DownloadFailed
        apt cannot fetch one of them.
    """
    if absent := [tool for tool in TOOLS if not shutil.which(tool)]:
        raise ProgramMissing(f"this is no Debian: there is no {' and no '.join(absent)}")
    try:
        run(["apt-get", "-q", "download", *packages], folder)
    except DownloadFailed:
        with tempfile.TemporaryDirectory(prefix="saga-lab-apt-") as lists:
            own = _own_lists(Path(lists))
            run(["apt-get", *own, "-qq", "update"], folder)
            run(["apt-get", *own, "-q", "download", *packages], folder)
    return sorted(folder.glob("*.deb"))


def run(argv: list[str], folder: Path) -> str:
    """Run one of Debian's tools in a folder; return what it prints.

    Raises
    ------
    DownloadFailed
        It fails; the message has the tool's own words.
    """
    try:
        done = subprocess.run(
            argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DownloadFailed(f"{argv[0]} failed: {error}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise DownloadFailed(
            f"{argv[0]} failed: {said[0][2:].strip() if said else done.stderr.strip()[-200:]}",
            next_step="check the network and /etc/apt/sources.list",
        )
    return done.stdout


def _own_lists(folder: Path) -> list[str]:
    """Return apt's options for lists and a cache below a folder; see apt.conf(5), Dir::State and Dir::Cache."""
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    return [
        *("-o", f"Dir::State={folder}/state"),
        *("-o", f"Dir::State::lists={folder}/state/lists"),
        *("-o", "Dir::State::status=/var/lib/dpkg/status"),
        *("-o", f"Dir::Cache={folder}/cache"),
        *("-o", f"Dir::Cache::archives={folder}/cache/archives"),
    ]
