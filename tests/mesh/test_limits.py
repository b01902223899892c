"""Requests that the gateway's Envoy refuses: oversized and endless ones, and changes of its administration."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest

from labservices.http.limits import MAX_BODY_BYTES
from labservices.origins import is_own_host, own_host_pattern
from labstack.backends.processes.components.envoy import find_envoy
from labstack.clients.envoy_admin import ADMIN, EnvoyAdmin
from labstack.gateway import istiod
from labstack.gateway.addresses import Addresses, ServiceInstance, adapted
from labstack.gateway.bootstrap import Administration, by_files
from labstack.gateway.envoy_files import EnvoyFiles, connection_managers
from labstack.gateway.limits import add_limits
from labstack.gateway.store import own_configuration
from labstack.gateway.xds_folder import XdsFolder
from labstack.istio import envoy_api
from labstack.istio.documents import Document
from labstack.istio.translate import translate
from labstack.ports.free import choose
from labstack.waiting import wait_until
from tests.mesh.istiod import Istiod, find_istiod

SERVICES = ("order", "inventory", "payment", "shipping")


class _Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Envoy:
    folder: Path
    port: int
    admin: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def documents(port: int, upstream: int) -> list[Document]:
    """Return the lab's own configuration with one server behind all services."""
    instances = {name: (ServiceInstance("v1", "127.0.0.1", upstream),) for name in SERVICES}
    return adapted(own_configuration(), Addresses(port, "127.0.0.1", instances))


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """Envoy with the lab's own configuration, translated, before a server that accepts everything."""
    folder = tmp_path_factory.mktemp("envoy")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    gateway = choose(0, {0})
    admin = choose(0, {0, gateway})
    xds = XdsFolder(folder / "xds")
    files = EnvoyFiles(xds, "", find_envoy())
    files.write(files.resources(translate(documents(gateway, server.server_port))))
    bootstrap = folder / "bootstrap.yaml"
    bootstrap.write_text(by_files(Administration("admin.sock", "127.0.0.1", admin), xds))
    command = [find_envoy(), "--config-path", bootstrap, "--disable-hot-restart", "--concurrency", "1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(part) for part in command], cwd=folder, stdout=log, stderr=log)
    try:
        running = Envoy(folder, gateway, f"http://127.0.0.1:{admin}")
        wait_until(EnvoyAdmin(running.admin).listens, 20)
        yield running
    finally:
        process.terminate()
        process.wait(20)
        server.shutdown()
        server.server_close()


def test_body_over_a_megabyte_is_refused_at_the_gateway(envoy: Envoy) -> None:
    """The gateway responds to a body over 1 MB with 413, as a problem, and forwards one of 1 MB."""
    url = f"{envoy.url}/orders"
    assert httpx.post(url, content=b" " * MAX_BODY_BYTES).status_code == 200
    for content in (b" " * (MAX_BODY_BYTES + 1), iter([b" " * 500_000] * 3)):
        answer = httpx.post(url, content=content)
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
        assert answer.json()["status"] == 413


def test_bodies_without_end_delay_no_other_request_at_the_gateway(envoy: Envoy) -> None:
    """While 300 bodies do not end, the gateway forwards other requests at once."""
    head = b"POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n{"
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", envoy.port))).sendall(head)
        start = time.monotonic()
        assert httpx.post(f"{envoy.url}/orders", content=b"{}").status_code == 200
        assert time.monotonic() - start < 4  # seconds; an unfinished body is cut after 5


def test_request_without_end_times_out_at_the_gateway(envoy: Envoy) -> None:
    """A request whose headers or body are incomplete after five seconds is 408."""
    starts = b"GET /orders HTTP/1.1\r\nx: ", b"POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"
    with contextlib.ExitStack() as stack:
        connections = []
        for start in starts:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", envoy.port), timeout=20))
            connection.sendall(start)
            connections.append(connection)
        assert [connection.recv(12) for connection in connections] == [b"HTTP/1.1 408"] * 2


@pytest.mark.parametrize("path", ["/quitquitquit", "/healthcheck/fail", "/drain_listeners", "/logging?level=trace"])
def test_the_port_of_the_administration_changes_nothing(envoy: Envoy, path: str) -> None:
    """A POST to Envoy's administration is 403, and Envoy stays as it is."""
    assert httpx.post(f"{envoy.admin}{path}").status_code == 403
    assert httpx.get(f"{envoy.admin}/ready").text == "LIVE\n"


def test_the_administration_listens_on_a_socket_of_its_user(envoy: Envoy) -> None:
    """The socket that accepts changes is accessible to its user only."""
    socket_file = envoy.folder / "admin.sock"
    assert socket_file.is_socket()
    assert socket_file.stat().st_mode & 0o777 == 0o600
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket_file))) as client:
        assert client.post("http://localhost/reset_counters").status_code == 200


def test_the_port_of_the_administration_reads(envoy: Envoy) -> None:
    """GET and HEAD read statistics and configuration; a foreign host is 403."""
    assert "cluster_manager" in httpx.get(f"{envoy.admin}/stats", params={"filter": "cds"}).text
    assert httpx.head(f"{envoy.admin}/ready").status_code == 200
    assert httpx.get(f"{envoy.admin}/ready", headers={"Host": "evil.example"}).status_code == 403
    assert ADMIN not in EnvoyAdmin(envoy.admin).configuration()["listeners"]


@pytest.mark.parametrize("further", [(), ("hub.example",), ("*",)])
@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1:9901", "[::1]:9901", "envoy:9901", "hub.example:80", "evil.example", "hubxexample.org"],
)
def test_envoy_and_the_services_accept_the_same_hosts(host: str, further: tuple[str, ...]) -> None:
    """The pattern in Envoy's configuration matches the hosts that the services accept."""
    assert bool(re.fullmatch(own_host_pattern(further), host)) == is_own_host(host, further)


@pytest.mark.skipif(find_istiod() is None, reason="no istiod here: run `lab install istiod`")
def test_istiod_and_the_translator_set_the_same_limits() -> None:
    """istiod generates from the EnvoyFilter the same limits that the translator's files contain."""
    program = find_istiod()
    assert program is not None
    own = documents(8080, 8101)
    with Istiod(program) as running:
        theirs = running.generate(istiod.configuration(own)).listeners
    ours = translate(own).listeners
    for listener in ours:
        for manager in connection_managers(listener):
            with manager as http:
                add_limits(http)
    assert [envoy_api.to_dict(listener) for listener in theirs] == [envoy_api.to_dict(listener) for listener in ours]


@pytest.mark.skipif(find_istiod() is None, reason="no istiod here: run `lab install istiod`")
def test_istiod_listens_on_its_three_ports_only(tmp_path: Path) -> None:
    """istiod has no interface that changes it: only discovery, debug lists and metrics."""
    taken = {0}
    for _ in range(3):
        taken.add(choose(0, taken))
    discovery, debug, monitoring = (f"127.0.0.1:{port}" for port in sorted(taken - {0}))
    (tmp_path / "mesh.yaml").write_text("enableAutoMtls: false\n")
    (tmp_path / "resources").mkdir()
    options = istiod.options(
        folder=str(tmp_path / "resources"),
        mesh=str(tmp_path / "mesh.yaml"),
        discovery=discovery,
        http=debug,
        monitoring=monitoring,
    )
    with (tmp_path / "log").open("wb") as log:
        environment = {**os.environ, **istiod.ENVIRONMENT}
        process = subprocess.Popen([str(find_istiod()), *options], env=environment, stdout=log, stderr=log)
    try:
        connections = psutil.Process(process.pid).net_connections

        def ports() -> set[int]:
            return {one.laddr.port for one in connections("tcp") if one.status == psutil.CONN_LISTEN}

        wait_until(lambda: taken - {0} <= ports() and httpx.get(f"http://{debug}{istiod.SERVICES}"), 20)
        assert ports() == taken - {0}
    finally:
        process.terminate()
        process.wait(20)
