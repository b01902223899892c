"""Repeated measurement, from outside, of the memory that all processes of an image use."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

import psutil

from labstack.process_id import is_alive
from tools.as_binder import CGROUP, Image

INTERVAL = 0.5
"""Seconds between two measurements."""


class LimitedCgroup:
    """A cgroup with a memory limit: the kernel kills a process that exceeds it.

    Attributes
    ----------
    group : Path
        Its folder. A process that writes its id to *cgroup.procs* there is limited, and so are its children.

    Raises
    ------
    OSError
        This user or this machine can't create a cgroup.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.group = CGROUP / name
        self.group.mkdir()
        try:
            (self.group / "memory.limit_in_bytes").write_text(str(limit))
            # Without a mounted cgroup v1, this is an ordinary folder without a limit.
            if int((self.group / "memory.limit_in_bytes").read_text()) != limit:
                raise OSError(f"{CGROUP} bounds nothing")
        except (OSError, ValueError):
            self.remove()
            raise

    @property
    def members(self) -> set[int]:
        """Ids of the processes in the cgroup."""
        return {int(line) for line in (self.group / "cgroup.procs").read_text().split()}

    @property
    def oom_kills(self) -> int:
        """Number of processes that the kernel killed for lack of memory."""
        lines = (self.group / "memory.oom_control").read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])

    def remove(self) -> None:
        """Remove the cgroup; no process may be left in it."""
        with suppress(OSError):
            os.rmdir(self.group)


def limited_cgroup(name: str, limit: int) -> LimitedCgroup | None:
    """Return a cgroup with a memory limit in bytes, or None if it can't be created."""
    try:
        return LimitedCgroup(name, limit)
    except (OSError, ValueError):
        return None


class MemoryMonitor(threading.Thread):
    """A thread that measures the memory of an image: the proportional set size (PSS), which counts shared memory once.

    Attributes
    ----------
    peak : int
        The largest measurement, in bytes.
    peak_by_program : dict
        Bytes at the peak, by program.
    programs_outside : set of str
        Programs seen outside the cgroup, if there is one: their memory counts, but is not limited.
    """

    def __init__(self, image: Image, cgroup: LimitedCgroup | None) -> None:
        super().__init__(name="memory-monitor", daemon=True)
        self._image, self._cgroup = image, cgroup
        self._stop_requested = threading.Event()
        self.peak = 0
        self.peak_by_program: dict[str, int] = {}
        self.programs_outside: set[str] = set()
        self.measurements = 0

    def run(self) -> None:
        """Measure until stopped."""
        while not self._stop_requested.wait(INTERVAL):
            by_program: dict[str, int] = {}
            processes = self._image.processes()
            members = self._cgroup.members if self._cgroup else {process.pid for process in processes}
            for process in processes:
                with suppress(psutil.Error, OSError):
                    info = process.memory_full_info()
                    size = getattr(info, "pss", 0) or info.rss
                    by_program[process.name()] = by_program.get(process.name(), 0) + size
                    if process.pid not in members and self._is_outside(process):
                        self.programs_outside.add(process.name())
            self.measurements += 1
            if sum(by_program.values()) > self.peak:
                self.peak, self.peak_by_program = sum(by_program.values()), by_program

    def _is_outside(self, process: psutil.Process) -> bool:
        """Report whether a process is still outside the cgroup; a process that exits leaves it a moment earlier."""
        return is_alive(process) and self._cgroup is not None and process.pid not in self._cgroup.members

    def stop(self) -> None:
        """Stop measuring."""
        self._stop_requested.set()
        self.join(10)
