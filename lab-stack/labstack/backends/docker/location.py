"""Find out whether the ports that the engine publishes on 127.0.0.1 are those of this machine.

They are not if the engine runs on another machine (``DOCKER_HOST=tcp://...``), or if this process runs in a container
into which the engine's socket is mounted.
"""

from __future__ import annotations

import contextlib
import platform
import socket
from typing import Any
from urllib.parse import urlsplit

import docker
import psutil
from docker.errors import APIError

BRIDGE_NAME = "com.docker.network.bridge.name"
"""The option of Docker's default network that names its interface."""

LISTENING = "0A"
"""State of a listening socket in /proc/net/tcp; see proc_net(5)."""


def remote_host(address: str) -> str:
    """Return the host in the engine's address if it is another machine, else an empty string."""
    host = urlsplit(address).hostname if address.startswith(("tcp://", "ssh://", "http://", "https://")) else None
    if host is None:
        return ""
    try:
        resolved = {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
    except OSError:  # the connection will fail, and say why
        return ""
    return "" if resolved & _own_addresses() else host


def is_elsewhere(client: docker.DockerClient) -> bool:
    """Report whether the engine's containers run beside this process, but in another network than this process.

    An engine on this kernel has a bridge, which is an interface of the engine's own network. Docker Desktop and
    rootless engines forward their ports from another network; with such an engine, the answer is True only if this
    process itself runs in one of the engine's containers.
    """
    info = client.info()
    forwards = info.get("OperatingSystem") == "Docker Desktop" or any(
        "rootless" in option for option in info.get("SecurityOptions") or ()
    )
    if info.get("KernelVersion") != platform.release():
        return False
    if forwards:
        return _is_container_of(client)
    with contextlib.suppress(APIError):
        bridge: dict[str, Any] = client.api.inspect_network("bridge")
        interface = (bridge.get("Options") or {}).get(BRIDGE_NAME)
        return interface is not None and interface not in psutil.net_if_addrs()
    return False


def is_out_of_reach(sockets: str, inner_port: int, port: int) -> bool:
    """Report whether a program listens in its container, but its published port refuses connections here.

    Parameters
    ----------
    sockets : str
        Content of the container's /proc/net/tcp and tcp6.
    inner_port, port : int
        Port in the container, and the published one on 127.0.0.1.
    """
    rows = [line.split() for line in sockets.splitlines()]
    if not any(len(row) > 3 and row[1].endswith(f":{inner_port:04X}") and row[3] == LISTENING for row in rows):
        return False
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return True
    return False


def _is_container_of(client: docker.DockerClient) -> bool:
    """Report whether this process runs in a container of the engine, with a separate network."""
    with contextlib.suppress(APIError):
        container: dict[str, Any] = client.api.inspect_container(socket.gethostname())
        return str(container["HostConfig"].get("NetworkMode")) != "host"
    return False


def _own_addresses() -> set[str]:
    return {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
