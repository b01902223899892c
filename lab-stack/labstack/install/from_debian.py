"""Programs out of a package of Debian, without installing it: apt fetches and checks it, dpkg unpacks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labstack.errors import DownloadFailed, ProgramMissing
from labstack.install import apt
from labstack.install.on_path import is_at_least
from labstack.install.store import Program, Store


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
    with store.growing() as growing:
        tell(f"apt fetches {how.package}")
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
