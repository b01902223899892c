"""Load an agent into a running Java process.

With ``-javaagent`` on its command line, Java refuses its class-data archive, and the startup of the broker and Connect
takes twice as long. Loading the agent later costs 0.1 s.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import sys
import tempfile
from pathlib import Path

import psutil

from labstack.process_id import ProcessId
from labstack.waiting import poll_until

ATTACH_TIMEOUT = 20.0
"""Seconds to wait for Java's answer. On a busy laptop, Connect took over 5 s, because it compiles as it starts."""
PROTOCOL = "1"


class NotLoaded(Exception):
    """The agent could not be loaded into the process; the message gives the reason."""


def load_agent(pid: int, jar: Path, arguments: str) -> None:
    """Load an agent into a Java process.

    Parameters
    ----------
    pid : int
        Process id of a Java process of the same user.
    jar : Path
        The agent.
    arguments : str
        Arguments for the agent.

    Raises
    ------
    NotLoaded
        If the process does not exist or refuses the agent.

    Notes
    -----
    The JDK's own tool (``jcmd PID JVMTI.agent_load``) starts another Java process, and a JRE has no ``jcmd``. Sources
    of the protocol: HotSpot's ``attachListener_posix.cpp`` and the JDK's ``VirtualMachineImpl``.
    """
    fields = (PROTOCOL, "load", "instrument", "false", f"{jar}={arguments}")
    try:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(ATTACH_TIMEOUT)
            channel.connect(str(_open_attach_socket(pid)))
            channel.sendall(b"".join(field.encode() + b"\0" for field in fields))
            answer = b"".join(iter(lambda: channel.recv(4096), b"")).decode(errors="replace")
    except (OSError, psutil.Error) as error:
        raise NotLoaded(f"the Java agent can't be loaded into process {pid}: {error}") from error
    if answer.split() not in (["0", "0"], ["0", "return", "code:", "0"]):
        raise NotLoaded(f"process {pid} rejected the Java agent: {answer.strip()!r}")


def remove_attach_socket(pid: int) -> None:
    """Remove the socket that a killed Java process leaves behind.

    The socket would block a Java process of another user that gets the same process id and can't remove the file.
    """
    if ProcessId.of(pid).process():
        return
    with contextlib.suppress(OSError):
        _attach_socket(pid).unlink()


def _attach_socket(pid: int) -> Path:
    """Return the path of the socket on which a Java process accepts commands."""
    # HotSpot's temporary folder: on Linux always `/tmp`, regardless of TMPDIR.
    return Path("/tmp" if sys.platform == "linux" else tempfile.gettempdir()) / f".java_pid{pid}"


def _open_attach_socket(pid: int) -> Path:
    """Make a Java process listen for commands, and return the path of its socket.

    Raises
    ------
    NotLoaded
        If another user has made a file in the place of the socket.
    OSError
        If the request can't be made.
    """
    attach_socket = _attach_socket(pid)
    if not attach_socket.exists():
        # HotSpot looks for this file in its working directory first, which is the lab's own folder.
        trigger_file = Path(psutil.Process(pid).cwd()) / f".attach_pid{pid}"
        trigger_file.touch(mode=0o600)
        try:
            os.kill(pid, signal.SIGQUIT)
            poll_until(attach_socket.exists, ATTACH_TIMEOUT, interval=0.01)
        finally:
            with contextlib.suppress(FileNotFoundError):
                trigger_file.unlink()
    status = attach_socket.lstat()
    if status.st_uid != os.geteuid() or not stat.S_ISSOCK(status.st_mode):
        raise NotLoaded(f"the Java agent can't be loaded into process {pid}: {attach_socket} is not its socket")
    return attach_socket
