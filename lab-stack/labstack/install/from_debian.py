"""Programs out of a package of Debian, without installing it: apt fetches and checks it, dpkg unpacks it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from labstack.errors import DownloadFailed, ProgramMissing
from labstack.install.on_path import is_at_least
from labstack.install.store import Program, Store

TOOLS = ("apt-get", "dpkg-deb")
PATIENCE = 300.0
"""Seconds that apt may take."""


def from_debian(store: Store, tell: Callable[[str], None]) -> Program:
    """Install a program from this machine's distribution; takes no rights, and changes nothing outside the cache.

    Parameters
    ----------
    store : Store
        Of the program.
    tell : callable
        Told how far it has come, in words.

    Raises
    ------
    ProgramMissing
        There is no package of it, this is no Debian, or its version is too old.
    DownloadFailed
        apt can't fetch it, or it is laid out otherwise.
    """
    how = store.entry.in_debian
    if how is None:
        raise ProgramMissing("no package of Debian is known to have it")
    if absent := [tool for tool in TOOLS if not shutil.which(tool)]:
        raise ProgramMissing(f"this is no Debian: there is no {' and no '.join(absent)}")
    with store.growing() as growing:
        tell(f"apt fetches {how.package}")
        # apt holds what it fetches to the distribution's signed lists.
        _run(["apt-get", "-q", "download", how.package], growing, how.package)
        package = next(growing.glob("*.deb"))
        version = _run(["dpkg-deb", "--field", str(package), "Version"], growing, how.package).strip()
        if not is_at_least(version, how.minimum):
            raise ProgramMissing(f"this distribution's {how.package} is {version}; {how.minimum} or newer is needed")
        tell(f"unpacking {how.package} {version}")
        unpacked = growing / "unpacked"
        _run(["dpkg-deb", "--extract", str(package), str(unpacked)], growing, how.package)
        grown = growing / "files"
        grown.mkdir()
        for name in how.files:
            if not (unpacked / name).is_file():
                raise DownloadFailed(
                    f"{how.package} {version} has no {name}", next_step="correct lab-stack/versions.toml"
                )
            (unpacked / name).rename(grown / Path(name).name)
        return store.put(grown, "debian", f"Debian's {how.package} {version}", version)


def _run(argv: list[str], folder: Path, package: str) -> str:
    try:
        done = subprocess.run(
            argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DownloadFailed(f"{argv[0]} does not get {package}: {error}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise DownloadFailed(
            f"{argv[0]} does not get {package}: {said[0][2:].strip() if said else done.stderr.strip()[-200:]}",
            next_step="`sudo apt-get update` renews the lists of packages",
        )
    return done.stdout
