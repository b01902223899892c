"""Load an agent into a running Java.

An agent that is named at the start (``-javaagent``) makes Java refuse its start-up archive, and the broker and Connect
then take twice as long. One that is loaded later costs a tenth of a second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import psutil

from labstack.local.process import lives
from labstack.waiting import wait_until

PATIENCE = 20.0
"""Seconds that a Java may take for an answer: a busy laptop's Connect, which compiles as it starts, took over 5."""
PROTOCOL = "1"


class NotLoaded(Exception):
    """The agent is not in that process; says why."""


def load_agent(pid: int, jar: Path, arguments: str) -> None:
    """Load an agent.

    Parameters
    ----------
    pid : int
        The Java process, of the same user.
    jar : Path
        The agent.
    arguments : str
        Handed to it.

    Raises
    ------
    NotLoaded
        The process is gone, or does not take it.

    Notes
    -----
    The JDK's own way (``jcmd PID JVMTI.agent_load``) starts a Java for it, and a JRE has no ``jcmd``. Source of the
    protocol: HotSpot's ``attachListener_posix.cpp`` and the JDK's ``VirtualMachineImpl``.
    """
    words = (PROTOCOL, "load", "instrument", "false", f"{jar}={arguments}")
    try:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(PATIENCE)
            channel.connect(str(_listening(pid)))
            channel.sendall(b"".join(word.encode() + b"\0" for word in words))
            answer = b"".join(iter(lambda: channel.recv(4096), b"")).decode(errors="replace")
    except OSError as error:
        raise NotLoaded(f"process {pid} does not listen to it: {error}") from error
    if answer.split() not in (["0", "0"], ["0", "return", "code:", "0"]):
        raise NotLoaded(f"process {pid} answered {answer.strip()!r}")


def remove_door(pid: int) -> None:
    """Remove the socket that a Java leaves behind when it is killed.

    It would be in the way of another user's Java that is given the same number, which can't remove it.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        if lives(psutil.Process(pid)):
            return
    with contextlib.suppress(OSError):
        _door(pid).unlink()


def _door(pid: int) -> Path:
    """Return the socket at which a Java takes commands."""
    # HotSpot's temporary folder: on Linux always this one, whatever TMPDIR says.
    return Path("/tmp" if sys.platform == "linux" else tempfile.gettempdir()) / f".java_pid{pid}"


def _listening(pid: int) -> Path:
    """Return the socket at which a Java takes commands; it begins to listen when it is asked to."""
    door = _door(pid)
    if not door.exists():
        bell = door.with_name(f".attach_pid{pid}")
        bell.touch(mode=0o600)
        try:
            os.kill(pid, signal.SIGQUIT)
            wait_until(door.exists, PATIENCE, interval=0.01)
        finally:
            with contextlib.suppress(FileNotFoundError):
                bell.unlink()
    return door
