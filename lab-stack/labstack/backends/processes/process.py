"""Start and stop processes that outlive their starter. They are identified by process id and start time.

Each process runs in its own session and in a clean environment (see `labstack.config.environment`), with
``SAGA_LAB=<lab>/<component>`` in it. Through this marker the lab finds processes that a crashed starter did not record.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import psutil

from labstack.config.environment import UMASK, clean, raise_file_limit
from labstack.errors import ProgramMissing, StorageError
from labstack.process_id import ProcessId, ask, is_alive, with_children
from labstack.waiting import poll_until

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
        The variables that the lab sets for the program; see `labstack.config.environment`.
    user, group : int, optional
        Ids of the user and group to run as (only root can).
    stop_signal : signal.Signals
        Signal that shuts the program down gracefully.
    timer_slack : int, optional
        Nanoseconds by which Linux may end the program's waits late, to end several at once (``PR_SET_TIMERSLACK`` of
        prctl(2)). Default: the system's 50 µs. Other systems ignore it.
    by_fork : bool
        Whether the program is a Python module that the fork server may start.
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
    """Start a program in its own session, with its output in `log`. The previous log is kept as ``.1``.

    Raises
    ------
    ProgramMissing
        If the program does not exist or can't be executed.
    StorageError
        If the log can't be written.
    LabError
        If the system permits too few open files.
    """
    reap()
    raise_file_limit()
    with new_log(log) as output, _timer_slack(command.timer_slack):
        try:
            child = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=command.cwd,
                env=environment(command, marker),
                umask=UMASK,
                start_new_session=True,
                user=command.user,
                group=command.group,
                extra_groups=None if command.user is None else [],
            )
        except OSError as error:
            raise ProgramMissing(
                f"{command.argv[0]} can't be started: {error.strerror}.",
                next_step="run `lab doctor`; if the cache is damaged, `lab prefetch` repairs it",
            ) from error
    identity = ProcessId.of(child.pid)
    # No Popen object tracks the child from here on; reap() notices its end by process id.
    child.returncode = 0
    _children.add(child.pid)
    return identity


def new_log(log: Path) -> BinaryIO:
    """Open a new log. The previous one is kept as ``.1``.

    Raises
    ------
    StorageError
        If the log can't be written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        return log.open("wb")
    except OSError as error:
        raise StorageError(
            f"The lab can't write {log}: {error.strerror}.", next_step="free some space, or make the folder writable"
        ) from error


def environment(command: Command, marker: str) -> dict[str, str]:
    """Return the environment of the process that a command starts. The marker is the last environment variable."""
    own = {name: value for name, value in command.env.items() if name != MARKER}
    return {**clean(own), MARKER: marker}


PR_SET_TIMERSLACK = 29


@contextlib.contextmanager
def _timer_slack(nanoseconds: int | None) -> Iterator[None]:
    """Set the timer slack of this thread, which a started process inherits; restore the default afterwards."""
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
    """Reap children that have ended, so that they don't stay zombies while their starter lives."""
    for pid in list(_children):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        _children.discard(pid)


def alive(identity: ProcessId | None) -> bool:
    """Report whether the identified process is alive."""
    reap()
    return identity is not None and identity.process() is not None


def listens(identity: ProcessId, port: int) -> bool:
    """Return whether a process listens on a TCP port; True if the system does not tell."""
    process = identity.process()
    try:
        connections = process.net_connections("tcp") if process else []
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port for one in connections)


def tree(identity: ProcessId) -> list[psutil.Process]:
    """Return the process and its descendants, parents first; empty if it has ended."""
    process = identity.process()
    return with_children(process) if process else []


OBTAINING = "obtaining"
"""Name of the process that installs missing programs, in its marker and its log."""


def extension_marker(name: str) -> str:
    """Return the name of an extension service in its process marker, where a component has its own name."""
    return f"extension-{name}"


def lab_processes(lab_id: str, component: str | None = None) -> list[psutil.Process]:
    """Return every living process that carries this lab's (and component's) marker."""
    prefix = f"{lab_id}/{component}" if component else f"{lab_id}/"

    def is_ours(process: psutil.Process) -> bool:
        marker = marker_of(process)
        return marker == prefix if component else marker.startswith(prefix)

    return _living(is_ours)


def working_in(folder: Path) -> list[psutil.Process]:
    """Return every living process whose working directory is `folder` or below it.

    PostgreSQL's backends overwrite their environment, including the marker, with a status text, but their working
    directory is the data folder. They may keep running for a moment after their server crashes, and must exit before
    the next server starts.
    """
    where = str(folder.resolve())
    return _living(lambda process: f"{ask(process.cwd, '')}{os.sep}".startswith(where + os.sep))


def marker_of(process: psutil.Process) -> str:
    """Return the marker of a process; empty if it has none, or has ended."""
    return (ask(process.environ, None) or {}).get(MARKER, "")


def _living(belongs: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    # Not `psutil.process_iter`, which fails as a whole if a process ends at the wrong moment.
    found = (ask(partial(psutil.Process, pid), None) for pid in psutil.pids() if pid != os.getpid())
    return [process for process in found if process and belongs(process) and is_alive(process)]


def send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to each process; ignore those that have ended."""
    for process in processes:
        ask(partial(process.send_signal, number), None)


def end(identity: ProcessId, stop_signal: signal.Signals, grace: float) -> None:
    """Send a process the signal `stop_signal`, and kill its whole tree once it has ended, or after `grace` seconds."""
    family = tree(identity)
    if not family:
        return
    # A paused process can't act on a signal.
    send(family, signal.SIGCONT)
    send(family[:1], stop_signal)
    poll_until(lambda: not alive(identity), grace)
    destroy([*family, *tree(identity)])


def destroy(processes: Sequence[psutil.Process]) -> None:
    """Send SIGKILL to each process, and wait up to 5 s until all have ended."""
    send(processes, signal.SIGKILL)

    def all_ended() -> bool:
        reap()
        return not any(is_alive(process) for process in processes)

    poll_until(all_ended, 5)


def memory(identity: ProcessId | None) -> int | None:
    """Return the tree's memory in bytes: proportional set size where the system reports it, else resident set size."""
    if identity is None:
        return None
    return sum(_memory(process) for process in tree(identity))


def _memory(process: psutil.Process) -> int:
    full = ask(process.memory_full_info, None) or ask(process.memory_info, None)
    return int(getattr(full, "pss", full.rss)) if full else 0
