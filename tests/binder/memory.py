"""How much memory everything in an image takes, looked at again and again from outside."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

import psutil

from tools.as_binder import CGROUP, Image

EVERY = 0.5
"""Seconds between two looks."""


def bounded_cgroup(name: str, limit: int) -> Path | None:
    """Make a cgroup with so many bytes of memory at most, or return None where that can't be done."""
    group = CGROUP / name
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit))
        # Where cgroup v1 is not mounted, the folder is a folder, and nothing more.
        bound = int((group / "memory.limit_in_bytes").read_text())
    except (OSError, ValueError):
        remove_cgroup(group)
        return None
    return group if bound == limit else None


def remove_cgroup(group: Path | None) -> None:
    """Remove a cgroup in which nothing runs any more."""
    if group:
        with suppress(OSError):
            os.rmdir(group)


class Watch(threading.Thread):
    """Watches the memory of an image's processes: the proportional set size, in which what is shared counts once.

    Attributes
    ----------
    peak : int
        The most that was seen, in bytes.
    at_the_peak : dict
        What took it then, by program.
    """

    def __init__(self, image: Image) -> None:
        super().__init__(name="memory-watch", daemon=True)
        self._image = image
        self._over = threading.Event()
        self.peak = 0
        self.at_the_peak: dict[str, int] = {}
        self.looks = 0

    def run(self) -> None:
        """Look until it is stopped."""
        while not self._over.wait(EVERY):
            by_program: dict[str, int] = {}
            for process in self._image.processes():
                with suppress(psutil.Error, OSError):
                    info = process.memory_full_info()
                    size = getattr(info, "pss", 0) or info.rss
                    by_program[process.name()] = by_program.get(process.name(), 0) + size
            self.looks += 1
            if sum(by_program.values()) > self.peak:
                self.peak, self.at_the_peak = sum(by_program.values()), by_program

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.join(10)
