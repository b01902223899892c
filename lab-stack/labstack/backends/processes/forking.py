"""Client of the fork server: start services through it, and start the server with the first service."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sys
import threading
from pathlib import Path

import psutil

from labstack.backends.processes import process
from labstack.backends.processes.fork_server import peer_user
from labstack.backends.processes.process import Command
from labstack.config.environment import UMASK
from labstack.config.paths import LabPaths
from labstack.process_id import ProcessId
from labstack.waiting import poll_until

NAME = "fork-server"
"""Name of the fork server in its marker and of its log."""

PROGRAM = Path(__file__).with_name("fork_server.py")
FORK_TIMEOUT = 15.0
"""Seconds to wait for imports and fork; after that, the service starts as an ordinary process."""

PADDING = "-" * 160
"""Padding: a fork overwrites the server's marker and command line with its own, so the server's must be long enough."""


_start_lock = threading.Lock()


class ForkServer:
    """Start the services of one lab by forking.

    Parameters
    ----------
    paths : LabPaths
        Folders of the lab.
    lab_id : str
        Id of the lab.
    """

    def __init__(self, paths: LabPaths, lab_id: str) -> None:
        self._paths = paths
        self._lab_id = lab_id
        # Another Python environment has other libraries, so it needs its own server.
        self._socket = f"saga-lab-{lab_id}-{hashlib.sha256(sys.executable.encode()).hexdigest()[:8]}"

    def start(self) -> None:
        """Start the server if it does not run. Return before it has imported the libraries."""
        if sys.platform != "linux":
            return
        with _start_lock:
            if (connection := self._connect()) is not None:
                connection.close()
                return
            command = Command([sys.executable, str(PROGRAM), self._socket, PADDING], cwd=self._paths.state)
            server = process.spawn(command, self._paths.log(NAME), f"{self._lab_id}/{NAME}{PADDING}")
            poll_until(lambda: self._listens() or not process.alive(server), FORK_TIMEOUT)

    def spawn(self, command: Command, log: Path, marker: str) -> ProcessId:
        """Start a Python module, by a fork where possible.

        Parameters
        ----------
        command : Command
            ``python -m MODULE ...``.
        log : Path
            File for the output; the previous log is kept as ``.1``.
        marker : str
            Lab and component of the process.

        Returns
        -------
        ProcessId
            The started process.

        Raises
        ------
        ProgramMissing, StorageError
            See :func:`labstack.backends.processes.process.spawn`.
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
                        "umask": UMASK,
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
        connection.settimeout(FORK_TIMEOUT)
        with contextlib.suppress(OSError):
            connection.connect(f"\0{self._socket}")
            # Every user can bind this name, and a request contains the database's password.
            if peer_user(connection) == os.geteuid():
                return connection
        connection.close()
        return None


def is_fork_server(found: psutil.Process) -> bool:
    """Report whether a process is a lab's fork server, which belongs to a running lab but is not a component."""
    return process.marker_of(found).endswith(f"/{NAME}{PADDING}")
