"""A real istiod that reads files, without Kubernetes, and the configuration that it sends to the lab's gateway.

It processes one configuration after another. Each is written to an empty folder, together with markers of all four
kinds. The answer is complete once every marker appears in it and a second connection receives the same answer.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import grpc  # type: ignore[import-untyped]
import yaml
from google.protobuf.message import Message

from labstack.config.paths import LabPaths
from labstack.install import find_program
from labstack.istio.translate.resources import Resources
from tests.mesh.ads import KINDS, Gateway

MARKER = "marker.invalid"
MARKER_PORT = 64999

SETTINGS = {
    "ENABLE_CA_SERVER": "false",
    "PILOT_CERT_PROVIDER": "none",
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_ENABLE_ALPN_FILTER": "false",
    "PILOT_ENABLE_TELEMETRY_LABEL": "false",  # the cases were recorded without these labels
    "PILOT_DEBOUNCE_AFTER": "10ms",
    "POD_NAMESPACE": "istio-system",
}
MESH = """\
enableAutoMtls: false
enableTracing: false
ingressControllerMode: "OFF"
defaultConfig:
  discoveryAddress: 127.0.0.1:{port}
"""


class Rejected(Exception):
    """istiod rejected the configuration; the message is the error from its log."""


def find_istiod() -> Path | None:
    """Return the istiod to compare with: LAB_ISTIOD, otherwise the one that the lab itself would run, or None."""
    if named := os.environ.get("LAB_ISTIOD"):
        return Path(named)
    program = find_program("istiod", LabPaths.of_user())
    return program.path if program else None


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _markers(number: int) -> str:
    """Return a resource of each kind that appears in the answer and changes nothing else in it."""
    host, name = f"m{number}.{MARKER}", f"m{number}"
    meta = f"metadata: {{name: {name}, namespace: default}}"
    return f"""\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
{meta}
spec:
  hosts: [{host}]
  resolution: STATIC
  ports: [{{number: 1, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.9.9.9}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
{meta}
spec: {{host: {host}, subsets: [{{name: {name}}}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
{meta}
spec: {{servers: [{{port: {{number: {MARKER_PORT}, name: {name}, protocol: HTTP}}, bind: 127.9.9.9, hosts: [{host}]}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
{meta}
spec: {{hosts: [{host}], gateways: [{name}], http: [{{name: {name}, directResponse: {{status: 200}}}}]}}
"""


def _in_namespaces(text: str) -> str:
    documents = [document for document in yaml.safe_load_all(text) if document]
    if all(document["metadata"].get("namespace") for document in documents):
        return text
    for document in documents:
        document["metadata"].setdefault("namespace", "default")
    return yaml.safe_dump_all(documents)


def _has_markers(seen: dict[str, dict[str, Message]], number: int) -> bool:
    name = f"outbound|1||m{number}.{MARKER}"
    if name not in seen["clusters"] or f"outbound|1|m{number}|m{number}.{MARKER}" not in seen["clusters"]:
        return False
    if not seen["endpoints"][name].endpoints:
        return False
    route = seen.get("routes", {}).get(f"http.{MARKER_PORT}.127.9.9.9")
    return route is not None and any(host.domains == [f"m{number}.{MARKER}"] for host in route.virtual_hosts)


def _without_markers(seen: dict[str, dict[str, Message]]) -> Resources:
    def is_marker(name: str) -> bool:
        return MARKER in name or str(MARKER_PORT) in name

    kept = {kind: [m for name, m in sorted(seen.get(kind, {}).items()) if not is_marker(name)] for kind in KINDS}
    return Resources(**kept)


class Istiod:
    """A running istiod with its own folder; it stops at the end of the `with` block."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._numbers = itertools.count(1)

    def __enter__(self) -> Istiod:
        self._root = Path(tempfile.mkdtemp(prefix="lab-istiod-"))
        self._folder = self._root / "config"
        self._folder.mkdir()
        self._log_path = self._root / "log"
        try:
            for _ in range(3):  # another process may take a free port before istiod binds it
                if self._start():
                    return self
            raise RuntimeError(f"istiod does not start: {self._log(0)[-2000:]}")
        except BaseException:
            self._clean_up()
            raise

    def _start(self) -> bool:
        port, http_port, monitoring = _free_ports(3)
        (self._root / "mesh.yaml").write_text(MESH.format(port=port))
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(str(self._program), "discovery", "--registries=", f"--configDir={self._folder}"),
                    *(f"--meshConfig={self._root / 'mesh.yaml'}", "--clusterID=lab", f"--grpcAddr=127.0.0.1:{port}"),
                    *(f"--httpAddr=127.0.0.1:{http_port}", "--httpsAddr=", "--secureGRPCAddr="),
                    *(f"--monitoringAddr=127.0.0.1:{monitoring}", "--ctrlz_port=0"),
                ],
                env={**os.environ, **SETTINGS},
                cwd=self._root,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        ready = grpc.channel_ready_future(self._channel)
        deadline = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                ready.result(timeout=0.2)
            except grpc.FutureTimeoutError:
                continue
            return True
        ready.cancel()
        self._stop()
        return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up()

    def _stop(self) -> None:
        self._channel.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _clean_up(self) -> None:
        self._stop()
        shutil.rmtree(self._root, ignore_errors=True)

    @contextmanager
    def _gateway(self) -> Iterator[Gateway]:
        gateway = Gateway(self._channel)
        try:
            yield gateway
        finally:
            gateway.close()

    def generate(self, text: str) -> Resources:
        """Return the resources that istiod generates for a configuration, each list sorted by name.

        An object without a namespace gets `default`, as in a cluster; istiod leaves it empty when it reads files.

        Raises
        ------
        Rejected
            istiod's own validation rejected the configuration.
        """
        self._apply("")
        return self._apply(_in_namespaces(text))

    def _apply(self, text: str) -> Resources:
        number = next(self._numbers)
        read_from = self._log_path.stat().st_size
        new = self._root / "new"
        new.write_text(_markers(number) + "---\n" + text)
        new.rename(self._folder / "config.yaml")
        with self._gateway() as gateway:
            self._wait(gateway, number, read_from)
        last: Resources | None = None
        while True:
            with self._gateway() as gateway:
                now = self._wait(gateway, number, read_from)
            if last is not None and now.to_json() == last.to_json():
                return now
            last = now

    def _wait(self, gateway: Gateway, number: int, read_from: int) -> Resources:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            # For a rejected folder istiod sends no answer; it only writes a line to its log.
            if not gateway.receive(timeout=0.2):
                log = self._log(read_from)
                if (start := log.find("Failed to parse")) >= 0:
                    raise Rejected(log[start : start + 600])
            if gateway.complete() and _has_markers(gateway.seen, number):
                return _without_markers(gateway.seen)
        raise TimeoutError(f"istiod did not show marker {number}: {self._log(read_from)[-2000:]}")

    def _log(self, read_from: int) -> str:
        with self._log_path.open("rb") as file:
            file.seek(read_from)
            return file.read().decode(errors="replace")
