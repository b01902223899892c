"""Connect to the Docker engine as the user's `docker` command does, and explain why it is unavailable."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import docker
from docker.errors import APIError, DockerException, ImageNotFound
from requests.exceptions import RequestException
from testcontainers.core.config import testcontainers_config

from labstack.backends.docker import location, user_config
from labstack.errors import EngineUnavailable, LabError, PortTaken, StorageError

OLDEST_API = (1, 41)
"""The API of Docker 20.10, the oldest tested engine."""

# Ryuk would remove the containers together with their starter, such as a notebook's kernel. The lab's containers
# outlive their starter: the lab finds them by their labels, and `lab down` removes them.
testcontainers_config.ryuk_disabled = True
# What the user has set up for the tests of other projects: another engine, a registry's prefix, credentials.
testcontainers_config.tc_properties = {}
testcontainers_config.hub_image_name_prefix = ""
testcontainers_config._docker_auth_config = None

FIRST_CONTACT = 10
"""Seconds until a silent engine counts as unavailable."""

_clients: dict[tuple[int, str], docker.DockerClient] = {}
_connect_lock = threading.Lock()


def engine_address() -> str:
    """Return the engine's address: ``DOCKER_HOST``, else that of the current context (Docker Desktop sets one).

    Raises
    ------
    EngineUnavailable
        If the current context can't be used.
    """
    return os.environ.get("DOCKER_HOST") or user_config.context_host() or "unix:///var/run/docker.sock"


def engine() -> docker.DockerClient:
    """Return a client of the engine, one per process and address.

    Raises
    ------
    EngineUnavailable
        If Docker is not installed, not running, not permitted, or too old. The message names the cause and the next
        step.
    """
    address = engine_address()
    # A forked process must not share connections with its parent.
    key = (os.getpid(), address)
    with _connect_lock:
        if key not in _clients:
            os.environ.setdefault("DOCKER_HOST", address)  # testcontainers reads it
            _clients[key] = _connect(address)
        return _clients[key]


def _connect(address: str) -> docker.DockerClient:
    if host := location.remote_host(address):
        raise elsewhere(address, f"it runs on {host}")
    try:
        _probe_socket(address)
        with user_config.errors():
            client = docker.DockerClient(base_url=address, timeout=FIRST_CONTACT, max_pool_size=32)
        client.api._auth_configs = user_config.NoCredentials()
        version = client.version()["ApiVersion"]
        if tuple(int(part) for part in version.split(".")) >= OLDEST_API and location.is_elsewhere(client):
            raise elsewhere(address, "it runs in another network, such as outside of this container")
    except (DockerException, RequestException, OSError) as error:
        raise unavailable(address, error) from error
    if tuple(int(part) for part in version.split(".")) < OLDEST_API:
        raise EngineUnavailable(
            f"The Docker engine at {address} speaks API {version}; the lab needs {'.'.join(map(str, OLDEST_API))}.",
            next_step="update Docker to 20.10 or newer, or use local mode: LAB_MODE=local",
        )
    client.api.timeout = 60
    return client


def elsewhere(address: str, reason: str) -> EngineUnavailable:
    """Return the error for an engine that publishes ports on a 127.0.0.1 which is not that of this process."""
    return EngineUnavailable(
        f"The ports of the Docker engine at {address} can't be reached: {reason}.",
        summary=f"the ports of Docker can't be reached, because {reason}",
        next_step="use local mode, which needs no Docker: LAB_MODE=local",
    )


def _probe_socket(address: str) -> None:
    """Raise the system's error if no engine listens. Docker's client would leave its socket open in that case."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            probe.connect(address.removeprefix("unix://"))


def unavailable(address: str, error: BaseException) -> EngineUnavailable:
    """Return an error that explains why the engine does not answer."""
    causes = list(_causes(error))
    text = " ".join(str(cause) for cause in causes)
    if any(isinstance(cause, PermissionError) for cause in causes) or "Permission denied" in text:
        return EngineUnavailable(
            f"You are not allowed to use the Docker engine at {address}.",
            next_step="join the group docker (`sudo usermod -aG docker $USER`, then log in again), or use local mode: "
            "LAB_MODE=local",
        )
    if "No such file" in text or "FileNotFoundError" in text:
        reason = "the socket does not exist: Docker is not installed, or not running"
        summary = "Docker is not installed, or not running"
    elif "Connection refused" in text:
        reason = "the connection was refused: Docker is installed, but not running"
        summary = "Docker is installed, but not running"
    else:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        summary = ""
    problem = user_config.problem()
    return EngineUnavailable(
        f"The Docker engine at {address} can't be reached: {reason}." + (f" {problem}" if problem else ""),
        summary=summary,
        next_step="start Docker, or use local mode, which needs no Docker: LAB_MODE=local",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        yield from (argument for argument in error.args if isinstance(argument, BaseException))
        error = error.__cause__ or error.__context__


def operation_error(what: str, message: str) -> LabError:
    """Return the lab's error for the engine's message about a rejected operation.

    Parameters
    ----------
    what : str
        Description of the failed operation, which starts the error's text.
    message : str
        The engine's message.
    """
    if "port is already allocated" in message or "address already in use" in message:
        advice = "stop that program, or run `lab down` and `lab up`; the lab then uses another port"
        return PortTaken(f"{what}: {message}", next_step=advice)
    if "no space left" in message:
        return StorageError(f"{what}: {message}", next_step="free some space (`docker system df` shows what uses it)")
    return LabError(f"{what}: the Docker engine reports: {message}", next_step="run `lab doctor`")


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Turn the engine's errors into the lab's. `what` describes the failed operation.

    Raises
    ------
    EngineUnavailable, PortTaken, StorageError, LabError
        If the engine is unavailable, a port is in use, the disk is full, or another error occurs.
    """
    try:
        yield
    except ImageNotFound as error:
        raise LabError(
            f"{what}: {error.explanation}", next_step="run `lab prefetch` to download every image"
        ) from error
    except APIError as error:
        raise operation_error(what, str(error.explanation or error)) from error
    except (DockerException, RequestException) as error:
        raise unavailable(engine_address(), error) from error
