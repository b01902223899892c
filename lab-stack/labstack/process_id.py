"""The identity of a process, and queries about it that tolerate its end.

Every question about a process can fail: the process may end before, or while, the system is asked. `ask` is the one
place that handles this.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")
D = TypeVar("D")

GONE = (psutil.Error, OSError)
"""Errors of a question about a process that has ended. psutil translates most of them, but not every race in /proc."""


def ask(question: Callable[[], T], default: D) -> T | D:
    """Return the answer to a question about a process, or `default` if the process has ended or may not be read.

    Parameters
    ----------
    question : callable
        A call of psutil, or of the system.
    default : object
        The answer for a process that has ended.
    """
    try:
        return question()
    except GONE:
        return default


@dataclass(frozen=True)
class ProcessId:
    """A process, identified by its pid and start time, because the system reuses pids.

    Attributes
    ----------
    pid : int
        Process id.
    born : float
        Start time, in a unit that no change of the wall clock affects: on Linux clock ticks since the machine's start
        (field 22 of ``/proc/PID/stat``, see proc(5)), elsewhere the seconds that the system stored at the start; 0
        for a process that had ended already.
    """

    pid: int
    born: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """Return the identity of the process that has this pid now; if none has it, one that matches no process."""
        return cls(pid, ask(lambda: _born(pid), 0))

    def process(self) -> psutil.Process | None:
        """Return the process if it is alive, else None. A zombie counts as dead: its parent has not reaped it yet."""
        if not self.born or ask(lambda: _born(self.pid), 0) != self.born:
            return None
        return ask(lambda: _unless_zombie(psutil.Process(self.pid)), None)


def is_alive(process: psutil.Process) -> bool:
    """Report whether a process runs. A zombie does not, even if its parent has not reaped it yet."""
    return ask(lambda: process.is_running() and _unless_zombie(process) is not None, default=False)


def with_children(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and its descendants, parents first; empty if it has just ended."""
    found: list[psutil.Process] = []
    return ask(lambda: [process, *process.children(recursive=True)], found)


def this_process() -> ProcessId:
    """Return the id of this process."""
    return ProcessId.of(os.getpid())


def _born(pid: int) -> float:
    if Path("/proc/self/stat").exists():
        # The program's name, in parentheses, may contain spaces and parentheses itself.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return int(fields[19])
    return psutil.Process(pid).create_time()


def _unless_zombie(process: psutil.Process) -> psutil.Process | None:
    return None if process.status() == psutil.STATUS_ZOMBIE else process
