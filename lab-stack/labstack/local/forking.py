"""The lab's side of the fork server: it starts services, and is started itself when the first one is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import sys
import threading
from pathlib import Path

import psutil

from labstack.local import process
from labstack.local.process import Command
from labstack.paths import LabPaths
from labstack.state import ProcessId
from labstack.waiting import wait_until

NAME = "fork-server"
"""How it is marked, and the name of its log."""

PROGRAM = Path(__file__).with_name("fork_server.py")
PATIENCE = 15.0
"""Seconds that it may take to import the libraries and fork; after that the service is started as usual."""

ROOM = "-" * 160
"""A fork writes its own mark and command line where those of the server are, so these have to be long enough."""


_starting = threading.Lock()


class ForkServer:
    """Starts the services of one lab.

    Parameters
    ----------
    paths : LabPaths
        Folders of the lab.
    lab_id : str
        The lab's.
    """

    def __init__(self, paths: LabPaths, lab_id: str) -> None:
        self._paths = paths
        self._lab_id = lab_id
        # Another environment has other libraries.
        self._socket = f"saga-lab-{lab_id}-{hashlib.sha256(sys.executable.encode()).hexdigest()[:8]}"

    def start(self) -> None:
        """Start the server if it does not run; returns before it has imported the libraries."""
        if sys.platform != "linux":
            return
        with _starting:
            if (connection := self._connect()) is not None:
                connection.close()
                return
            command = Command([sys.executable, str(PROGRAM), self._socket, ROOM], cwd=self._paths.state)
            server = process.spawn(command, self._paths.log(NAME), f"{self._lab_id}/{NAME}{ROOM}")
            wait_until(lambda: self._listens() or not process.alive(server), PATIENCE)

    def spawn(self, command: Command, log: Path, marker: str) -> ProcessId:
        """Start a Python module, by a fork where that can be done.

        Parameters
        ----------
        command : Command
            ``python -m MODULE ...``.
        log : Path
            Where its output goes; the log before it is kept as ``.1``.
        marker : str
            Its lab and component.

        Raises
        ------
        ProgramMissing, StorageTrouble
            As :func:`labstack.local.process.spawn`.
        """
        if sys.platform == "linux":
            self.start()
            if (connection := self._connect()) is not None:
                with connection, process.new_log(log) as output, contextlib.suppress(OSError, ValueError):
                    request = {
                        "argv": list(command.argv[2:]),
                        "cwd": str(command.cwd),
                        "env": process.environment(command, marker),
                        "mark": marker,
                        "umask": _umask(),
                    }
                    socket.send_fds(connection, [json.dumps(request).encode()], [output.fileno()])
                    identity = ProcessId.of(int(connection.recv(32)))
                    connection.sendall(b"!")
                    return identity
        return process.spawn(command, log, marker)

    def _listens(self) -> bool:
        if (connection := self._connect()) is None:
            return False
        connection.close()
        return True

    def _connect(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(f"\0{self._socket}")
        except OSError:
            connection.close()
            return None
        return connection


def is_fork_server(found: psutil.Process) -> bool:
    """Return whether a process is a lab's fork server, which is no component, but belongs to a lab that runs."""
    with contextlib.suppress(psutil.Error, OSError):
        return found.environ().get(process.MARKER, "").endswith(f"/{NAME}{ROOM}")
    return False


def _umask() -> int:
    """Return this process's umask. umask(2) would have to change it meanwhile, for all threads; see proc(5)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1], 8) for line in lines if line.startswith("Umask:")), 0o022)
