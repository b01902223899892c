"""How much memory everything in an image takes, looked at again and again from outside."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

import psutil

from labstack.local.process import lives
from tools.as_binder import CGROUP, Image

EVERY = 0.5
"""Seconds between two looks."""


class Bound:
    """A cgroup in which no more memory than the limit can be had: the kernel ends what asks for more.

    Attributes
    ----------
    group : Path
        Its folder; whatever writes its own process id into *cgroup.procs* there is bound, and its children are.

    Raises
    ------
    OSError
        This user, or this machine, can make none.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.group = CGROUP / name
        self.group.mkdir()
        try:
            (self.group / "memory.limit_in_bytes").write_text(str(limit))
            # Where cgroup v1 is not mounted, the folder is a folder, and nothing more.
            if int((self.group / "memory.limit_in_bytes").read_text()) != limit:
                raise OSError(f"{CGROUP} bounds nothing")
        except (OSError, ValueError):
            self.remove()
            raise

    @property
    def members(self) -> set[int]:
        """The ids of the processes in it."""
        return {int(line) for line in (self.group / "cgroup.procs").read_text().split()}

    @property
    def ended(self) -> int:
        """How many processes the kernel has ended, because there was no memory left."""
        lines = (self.group / "memory.oom_control").read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])

    def remove(self) -> None:
        """Remove it; nothing may run in it any more."""
        with suppress(OSError):
            os.rmdir(self.group)


def bounded(name: str, limit: int) -> Bound | None:
    """Return a cgroup with so many bytes of memory at most, or None where that can't be done."""
    try:
        return Bound(name, limit)
    except (OSError, ValueError):
        return None


class Watch(threading.Thread):
    """Watches the memory of an image's processes: the proportional set size, in which what is shared counts once.

    Attributes
    ----------
    peak : int
        The most that was seen, in bytes.
    at_the_peak : dict
        What took it then, by program.
    unbound : set of str
        Programs that were seen outside the bound, if there is one: their memory counts, but nothing limits it.
    """

    def __init__(self, image: Image, bound: Bound | None) -> None:
        super().__init__(name="memory-watch", daemon=True)
        self._image, self._bound = image, bound
        self._over = threading.Event()
        self.peak = 0
        self.at_the_peak: dict[str, int] = {}
        self.unbound: set[str] = set()
        self.looks = 0

    def run(self) -> None:
        """Look until it is stopped."""
        while not self._over.wait(EVERY):
            by_program: dict[str, int] = {}
            processes = self._image.processes()
            members = self._bound.members if self._bound else {process.pid for process in processes}
            for process in processes:
                with suppress(psutil.Error, OSError):
                    info = process.memory_full_info()
                    size = getattr(info, "pss", 0) or info.rss
                    by_program[process.name()] = by_program.get(process.name(), 0) + size
                    if process.pid not in members and self._is_outside(process):
                        self.unbound.add(process.name())
            self.looks += 1
            if sum(by_program.values()) > self.peak:
                self.peak, self.at_the_peak = sum(by_program.values()), by_program

    def _is_outside(self, process: psutil.Process) -> bool:
        """Return whether a process is outside the bound even now; one that ends leaves it a moment earlier."""
        return lives(process) and self._bound is not None and process.pid not in self._bound.members

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.join(10)
