"""A real JupyterHub with its proxy and the progress service, as processes of this machine."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from labstack.waiting import poll_until
from tests.hub import environment as packages

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
START_TIMEOUT = 90.0
PASSWORD, ADMIN_PASSWORD = "tea-for-the-room", secrets.token_hex(20)


class HubFailed(Exception):
    """The hub did not start, or did not do what it must; the message contains its log."""


@dataclass(frozen=True)
class Hub:
    """A running hub.

    Attributes
    ----------
    url : str
        Address of its proxy.
    token : str
        Token of a service that may create users, their tokens and their servers.
    log : Path
        The hub's log.
    """

    url: str
    token: str
    log: Path
    client: httpx.Client = field(repr=False)

    def api(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Send a request to the hub's API as the test's service."""
        headers = {"Authorization": f"token {self.token}"}
        return self.client.request(method, f"{self.url}/hub/api{path}", json=body, headers=headers)

    def add_user(self, name: str, *, admin: bool = False) -> None:
        """Create a user."""
        self.api("POST", f"/users/{name}", {"admin": admin}).raise_for_status()

    def token_of(self, name: str, *scopes: str) -> str:
        """Return a new token of a user; without scopes, it may do what the user may do."""
        answer = self.api("POST", f"/users/{name}/tokens", {"scopes": list(scopes)} if scopes else {})
        return str(answer.raise_for_status().json()["token"])

    @contextmanager
    def login(self, name: str, password: str) -> Iterator[httpx.Client]:
        """Yield a client with the cookies of a login in a browser."""
        with httpx.Client(follow_redirects=True, timeout=30, trust_env=False) as client:
            client.get(f"{self.url}/hub/login")
            form = {"username": name, "password": password, "_xsrf": client.cookies.get("_xsrf", path="/hub/")}
            client.post(f"{self.url}/hub/login", data=form, params={"next": "/hub/home"}).raise_for_status()
            yield client


@contextmanager
def hub(
    folder: Path,
    traits: Mapping[str, Mapping[str, Any]],
    *,
    address: str = "127.0.0.1",
    inside: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> Iterator[Hub]:
    """Run a hub for a block.

    Parameters
    ----------
    folder : Path
        An empty folder for its database, logs and hand-ins.
    traits : mapping
        Settings by class and trait that differ from the values of the chart.
    address : str
        The address on which the hub, its proxy and the service listen.
    inside : sequence of str
        The beginning of a command that runs a program in another network; empty for this machine's.
    environment : mapping
        The hub's environment variables.

    Raises
    ------
    HubFailed
        The hub did not start.
    packages.Unavailable
        A package of the hub can't be had.
    """
    ports = dict(zip(("proxy", "api", "hub", "progress"), free_ports(4, address if not inside else ""), strict=True))
    token = secrets.token_hex(16)
    at = {name: f"http://{address}:{port}" for name, port in ports.items()}
    service = [str(packages.python()), str(ROOT / "deploy" / "hub" / "progress.py"), str(folder / "hand-ins")]
    own: dict[str, dict[str, Any]] = {
        "JupyterHub": {
            "bind_url": at["proxy"],
            "hub_bind_url": at["hub"],
            "hub_connect_url": at["hub"],
            "db_url": f"sqlite:///{folder}/hub.sqlite",
            "cookie_secret_file": str(folder / "cookie_secret"),
            "pid_file": str(folder / "hub.pid"),
        },
        "ConfigurableHTTPProxy": {
            "command": [str(packages.proxy())],
            "api_url": f"http://127.0.0.1:{ports['api']}",
            "pid_file": str(folder / "proxy.pid"),
            "auth_token": secrets.token_hex(16),
        },
        "SharedPasswordAuthenticator": {"user_password": PASSWORD, "admin_password": ADMIN_PASSWORD},
    }
    for name, more in traits.items():
        own[name] = {**own.get(name, {}), **more}
    described = folder / "hub.json"
    content = {
        "root": str(ROOT),
        "traits": own,
        "token": token,
        "progress": at["progress"],
        "progress_command": service,
    }
    described.write_text(json.dumps(content))
    log = folder / "hub.log"
    command = [str(packages.python()), "-m", "jupyterhub", "--config", str(HERE / "jupyterhub_config.py")]
    variables = {**environment, "HUB": str(described)}
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        running = subprocess.Popen(
            [*inside, *command],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        stack.callback(_stop, running)
        client = stack.enter_context(httpx.Client(timeout=60, trust_env=False))
        found = Hub(at["proxy"], token, log, client)
        if not poll_until(lambda: _responds(found) or running.poll() is not None, START_TIMEOUT) or running.poll():
            raise HubFailed(f"the hub did not start:\n{log.read_text()[-4000:]}")
        yield found


def free_ports(number: int, address: str) -> list[int]:
    """Return free ports of an address; without one, ports that are free in a network of a test."""
    if not address:
        return list(range(18000, 18000 + number))
    found = []
    with ExitStack() as stack:
        for _ in range(number):
            one = stack.enter_context(socket.socket())
            one.bind((address, 0))
            found.append(one.getsockname()[1])
    return found


def _responds(hub: Hub) -> bool:
    try:
        services = hub.client.get(f"{hub.url}/services/progress/hand-ins.zip", timeout=5)
        return services.status_code in (200, 302, 403)
    except httpx.HTTPError:
        return False


def _stop(running: subprocess.Popen[bytes]) -> None:
    """Stop the hub; it stops its proxy, its services and its learners' servers. Kill those that it left."""
    started = psutil.Process(running.pid).children(recursive=True) if running.poll() is None else []
    running.terminate()
    try:
        running.wait(30)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
    for one in psutil.wait_procs(started, timeout=5)[1]:
        with suppress(psutil.NoSuchProcess):
            one.kill()
