"""Extract programs from a Debian package without installing it: apt downloads and verifies it, dpkg unpacks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labstack.errors import DownloadFailed, ProgramMissing
from labstack.install.sources import apt
from labstack.install.sources.on_path import is_at_least
from labstack.install.store import Program, Store


def from_debian(store: Store, report: Callable[[str], None]) -> Program:
    """Install a program from this machine's distribution, without root and without changes outside the cache.

    Parameters
    ----------
    store : Store
        Store of the program.
    report : callable
        Called with the progress as text.

    Raises
    ------
    ProgramMissing
        If the program has no package, the system has no apt, or the package's version is too old.
    DownloadFailed
        If apt can't download the package, or the package lacks an expected file.
    """
    recipe = store.entry.in_debian
    if recipe is None:
        raise ProgramMissing("no Debian package is known to contain it")
    with store.staging() as staging:
        report(f"downloading {recipe.package} with apt")
        (package,) = apt.download([recipe.package], staging)
        version = apt.run(["dpkg-deb", "--field", str(package), "Version"], staging).strip()
        if not is_at_least(version, recipe.minimum):
            raise ProgramMissing(
                f"this distribution's {recipe.package} is {version}; {recipe.minimum} or newer is needed"
            )
        report(f"unpacking {recipe.package} {version}")
        unpacked = staging / "unpacked"
        apt.run(["dpkg-deb", "--extract", str(package), str(unpacked)], staging)
        content = staging / "files"
        content.mkdir()
        for name in recipe.files:
            if not (unpacked / name).is_file():
                raise DownloadFailed(
                    f"{recipe.package} {version} has no {name}", next_step="correct lab-stack/versions.toml"
                )
            (unpacked / name).rename(content / Path(name).name)
        return store.put(content, "debian", f"Debian's {recipe.package} {version}", version)
