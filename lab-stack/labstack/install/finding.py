"""Find an installed program, or an accepted one on PATH."""

from __future__ import annotations

from labstack.config.paths import LabPaths
from labstack.install.catalogue import entry
from labstack.install.sources.on_path import on_path
from labstack.install.store import Program, Store


def find_program(name: str, paths: LabPaths) -> Program | None:
    """Return an installed program, else an accepted version on PATH, else `None`. Takes milliseconds.

    A program on PATH is queried for its version once. The answer is cached until the file changes.

    Parameters
    ----------
    name : str
        As in ``lab install NAME``.
    paths : LabPaths
        Folders of the lab, among them the cache.

    Raises
    ------
    UnknownComponent
        If the lab has no such program.
    """
    wanted = entry(name)
    return Store(wanted, paths).find() or on_path(wanted, paths)
