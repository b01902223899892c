"""Find free ports: the usual port of a component if it is free, else another one."""

from __future__ import annotations

import random
import socket

import psutil

from labstack.errors import PortTaken
from labstack.process_id import GONE

# Below the ephemeral range: an outgoing connection could otherwise take the port of a stopped component.
FALLBACK_RANGE = range(12000, 30000)


def is_free(port: int) -> bool:
    """Return whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose(usual: int, taken: set[int]) -> int:
    """Return `usual` if it is free and not in `taken`, else a free port from the fallback range.

    Raises
    ------
    PortTaken
        No free port was found.
    """
    return usual if usual not in taken and is_free(usual) else choose_other(usual, taken)


def choose_other(usual: int, taken: set[int]) -> int:
    """Return a random free port from the fallback range that is not in `taken`.

    Raises
    ------
    PortTaken
        No free port was found.
    """
    for port in random.sample(FALLBACK_RANGE, 200):
        if port not in taken and is_free(port):
            return port
    raise PortTaken(
        f"No free port found: {usual} and 200 other ports are taken.",
        next_step="stop some of the servers on this machine (`ss -ltnp` lists them)",
    )


def who_listens(port: int) -> str:
    """Return the name of the process that listens on `port`, as far as this user's permissions allow."""
    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except GONE:
        pass
    return "another program"
