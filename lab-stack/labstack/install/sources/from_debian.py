"""Extract programs from a Debian package without installing it: apt downloads and verifies it, dpkg unpacks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labstack.errors import DownloadFailed, ProgramMissing
from labstack.install.sources import apt
from labstack.install.sources.on_path import is_at_least
from labstack.install.store import Program, Store


def from_debian(store: Store, tell: Callable[[str], None]) -> Program:
    """Install a program from this machine's distribution, without root and without changes outside the cache.

    Parameters
    ----------
    store : Store
        Store of the program.
    tell : callable
        Called with the progress as text.

    Raises
    ------
    ProgramMissing
        If there is no package, the system has no apt, or the package's version is too old.
    DownloadFailed
        If apt can't download the package, or the package lacks an expected file.
    """
    how = store.entry.in_debian
    if how is None:
        raise ProgramMissing("no Debian package is known to contain it")
    with store.growing() as growing:
        tell(f"downloading {how.package} with apt")
        (package,) = apt.download([how.package], growing)
        version = apt.run(["dpkg-deb", "--field", str(package), "Version"], growing).strip()
        if not is_at_least(version, how.minimum):
            raise ProgramMissing(f"this distribution's {how.package} is {version}; {how.minimum} or newer is needed")
        tell(f"unpacking {how.package} {version}")
        unpacked = growing / "unpacked"
        apt.run(["dpkg-deb", "--extract", str(package), str(unpacked)], growing)
        grown = growing / "files"
        grown.mkdir()
        for name in how.files:
            if not (unpacked / name).is_file():
                raise DownloadFailed(
                    f"{how.package} {version} has no {name}", next_step="correct lab-stack/versions.toml"
                )
            (unpacked / name).rename(grown / Path(name).name)
        return store.put(grown, "debian", f"Debian's {how.package} {version}", version)
