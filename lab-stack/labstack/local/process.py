"""Processes that outlive whoever starts them: started in sessions of their own, found again by number and birth.

Each carries ``SAGA_LAB=<lab>/<component>`` in its environment, so that whatever a crashed starter left without
noting it down can be found.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import psutil

from labstack.errors import ProgramMissing, StorageTrouble
from labstack.state import ProcessId
from labstack.waiting import wait_until

MARKER = "SAGA_LAB"

_children: set[int] = set()


@dataclass(frozen=True)
class Command:
    """How to start one program.

    Parameters
    ----------
    argv : sequence of str
        Program and arguments.
    cwd : Path
        Working directory.
    env : mapping, optional
        Added to the caller's environment.
    user, group : int, optional
        Run as somebody else (only root can).
    stop_signal : signal.Signals
        What asks this program to end in good order.
    timer_slack : int, optional
        Nanoseconds by which Linux may end its waits late, to end several at once (``PR_SET_TIMERSLACK`` of prctl(2));
        default: the system's, 50 µs. Other systems take no notice.
    by_fork : bool
        Whether it is a Python module that the fork server may start.
    """

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    group: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    timer_slack: int | None = None
    by_fork: bool = False


def spawn(command: Command, log: Path, marker: str) -> ProcessId:
    """Start a program in a session of its own, its output going to `log` (the log before it is kept as ``.1``).

    Raises
    ------
    ProgramMissing
        There is no such program, or it can't be executed.
    StorageTrouble
        The log can't be written.
    """
    reap()
    with new_log(log) as output, _timer_slack(command.timer_slack):
        try:
            child = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=command.cwd,
                env=environment(command, marker),
                start_new_session=True,
                user=command.user,
                group=command.group,
                extra_groups=None if command.user is None else [],
            )
        except OSError as error:
            raise ProgramMissing(
                f"{command.argv[0]} can't be started: {error.strerror}.",
                next_step="run `lab doctor`; if the cache is damaged, `lab prefetch` mends it",
            ) from error
    identity = ProcessId.of(child.pid)
    # From here on nobody holds the child as such: its end is noticed by number, in reap().
    child.returncode = 0
    _children.add(child.pid)
    return identity


def new_log(log: Path) -> BinaryIO:
    """Open a new log; the one before it is kept as ``.1``.

    Raises
    ------
    StorageTrouble
        It can't be written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        return log.open("wb")
    except OSError as error:
        raise StorageTrouble(f"The lab can't write {log}: {error.strerror}.", next_step="free some space") from error


def environment(command: Command, marker: str) -> dict[str, str]:
    """Return the environment of a process that a command starts; the marker is its last variable.

    Python's ``PYTHONDONTWRITEBYTECODE`` is left out: the services' libraries would be compiled anew at every start.
    """
    unwanted = (MARKER, "PYTHONDONTWRITEBYTECODE")
    return {**{k: v for k, v in os.environ.items() if k not in unwanted}, **command.env, MARKER: marker}


PR_SET_TIMERSLACK = 29


@contextlib.contextmanager
def _timer_slack(nanoseconds: int | None) -> Iterator[None]:
    """Give this thread, and so the process that it starts, a timer slack; afterwards the thread has its own again."""
    if nanoseconds is None or sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(nanoseconds), 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_TIMERSLACK, 0, 0, 0, 0)  # back to the default


def reap() -> None:
    """Take note of children that have ended, so that they don't stay zombies while their starter lives."""
    for pid in list(_children):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        _children.discard(pid)


def alive(identity: ProcessId | None) -> bool:
    """Whether that very process still lives."""
    reap()
    return identity is not None and identity.process() is not None


def tree(identity: ProcessId) -> list[psutil.Process]:
    """Return the process and all below it, parents first; empty when it is gone."""
    process = identity.process()
    return with_children(process) if process else []


def with_children(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all below it, parents first; empty when it has just ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def guest(name: str) -> str:
    """Return how the mark of a guest's process names it, as the mark of a component has the component's name."""
    return f"guest-{name}"


def strays(lab_id: str, component: str | None = None) -> list[psutil.Process]:
    """Find every living process that carries this lab's (and component's) marker."""
    prefix = f"{lab_id}/{component}" if component else f"{lab_id}/"
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            marker = process.environ().get(MARKER, "")
            ours = marker == prefix if component else marker.startswith(prefix)
            if ours and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(process)
    return found


def working_in(folder: Path) -> list[psutil.Process]:
    """Find every living process whose working directory is `folder`, or below it.

    PostgreSQL's backends show what they do where their environment stood, mark included; but they work in their data
    folder. After a crash of their server they may go on for a moment, and must not meet the next one.
    """
    where = str(folder.resolve())
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            inside = process.cwd() == where or process.cwd().startswith(where + os.sep)
            if inside and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(process)
    return found


def send(processes: Sequence[psutil.Process], what: signal.Signals) -> None:
    """Send a signal to each; who is gone already is fine."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(what)


def end(identity: ProcessId, how: signal.Signals, grace: float) -> None:
    """Ask a process to end, and end its whole tree by force after `grace` seconds."""
    family = tree(identity)
    if not family:
        return
    # A stopped process can't act on a signal.
    send(family, signal.SIGCONT)
    send(family[:1], how)
    wait_until(lambda: not alive(identity), grace)
    destroy([*family, *tree(identity)])


def destroy(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL each, and wait until all are dead."""
    send(processes, signal.SIGKILL)
    wait_until(lambda: not any(lives(process) for process in processes), 5)


def lives(process: psutil.Process) -> bool:
    """Whether a process can still do something; a zombie can't, however long its parent takes to notice."""
    reap()
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def memory(identity: ProcessId | None) -> int | None:
    """Return the tree's memory in bytes: proportional set size where the system tells it, else resident set size."""
    if identity is None:
        return None
    total = 0
    for process in tree(identity):
        with contextlib.suppress(psutil.Error, OSError):
            try:
                full = process.memory_full_info()
                total += getattr(full, "pss", full.rss)
            except psutil.AccessDenied:
                total += process.memory_info().rss
    return total
