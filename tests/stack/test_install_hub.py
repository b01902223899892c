"""A registry like the large public ones: it requires an anonymous token, and serves layers from another host."""

from __future__ import annotations

import base64
import functools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from labstack.config.paths import LabPaths
from labstack.errors import ProgramMissing
from labstack.install import install
from labstack.install.catalogue import Entry, InImage
from labstack.install.sources.from_image import this_platform
from labstack.ports.free import choose
from labstack.progress import Progress
from tests.stack.registry import LAYER, Member, Proxy, Registry, packed, serving

HERE = this_platform().split("/")[1]
TOOL = [Member("usr/local/bin/tool", b"#!/bin/sh\necho tool\n", mode=0o755), Member("padding", os.urandom(2_000_000))]


def wanted(image: str, digest: str) -> Entry:
    return Entry("tool", "1", "tool", in_image=InImage(image, digest, "usr/local/bin/tool"))


@contextmanager
def listening(server: HTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without support for range requests."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_layers_that_another_host_hands_out(tmp_path: Path) -> None:
    """A redirect is followed; if that host does not support ranges, the layer is downloaded from the beginning."""
    registry = Registry(tmp_path / "registry", choose(5000, set()))
    (registry.folder / "images").mkdir(parents=True)
    files = functools.partial(Quiet, directory=str(registry.folder / "images"))
    with (
        listening(ThreadingHTTPServer(("127.0.0.1", 0), files)) as files_port,
        Proxy(files_port, cut_after=500_000, cuts=1).running() as network,
    ):
        network.open.set()
        elsewhere = [{"name": "redirect", "options": {"baseurl": f"http://127.0.0.1:{network.port}/"}}]
        with serving(registry.folder, registry.port, settings={"middleware": {"storage": elsewhere}}):
            digest = registry.index({HERE: registry.image(TOOL, architecture=HERE)})
            paths = LabPaths(tmp_path / "state", tmp_path / "cache")
            program = install(wanted(f"{registry.repository()}:1", digest), paths, Progress(), ways=["image"])
            layer = registry.stored(registry.blob(packed(TOOL), LAYER)["digest"]).parent.name
    assert subprocess.run([program.path], capture_output=True, text=True).stdout == "tool\n"
    first, second = (head.lower() for head in network.requests if layer in head)
    assert "range:" not in first
    assert "range: bytes=" in second


class Tokens(BaseHTTPRequestHandler):
    """Issues any requested token, signed with openssl."""

    folder: Path
    asked: list[str]

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        kind, name, actions = asked["scope"][0].split(":")
        self.asked.append(asked["scope"][0])
        certificate = "".join((self.folder / "tokens.crt").read_text().splitlines()[1:-1])
        now = int(time.time())
        claims = {
            "iss": "lab-standin",
            "sub": "",
            "aud": asked["service"][0],
            "jti": str(now),
            "iat": now,
            "nbf": now - 10,
            "exp": now + 300,
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }
        signed = f"{_base64({'typ': 'JWT', 'alg': 'RS256', 'x5c': [certificate]})}.{_base64(claims)}"
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.folder / "tokens.key")],
            input=signed.encode(),
            capture_output=True,
            check=True,
        ).stdout
        body = json.dumps({"token": f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _base64(part: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def test_a_registry_that_wants_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An install uses one anonymous token for the registry only; without it, the error names the authentication."""
    if not shutil.which("openssl"):
        pytest.skip("NOT TESTED: there is no openssl to sign tokens with")
    registry = Registry(tmp_path / "registry", choose(5000, set()))
    registry.folder.mkdir()
    with serving(registry.folder, registry.port):
        digest = registry.index({HERE: registry.image(TOOL, architecture=HERE)})
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lab-standin"),
            *("-keyout", str(tmp_path / "tokens.key"), "-out", str(tmp_path / "tokens.crt")),
        ],
        check=True,
        capture_output=True,
    )
    Tokens.folder, Tokens.asked = tmp_path, []
    paths = LabPaths(tmp_path / "state", tmp_path / "cache")
    files = functools.partial(Quiet, directory=str(registry.folder / "images"))
    with (
        listening(HTTPServer(("127.0.0.1", 0), Tokens)) as port,
        listening(ThreadingHTTPServer(("127.0.0.1", 0), files)) as files_port,
        Proxy(files_port).running() as network,
    ):
        network.open.set()
        elsewhere = [{"name": "redirect", "options": {"baseurl": f"http://127.0.0.1:{network.port}/"}}]
        token = {
            "realm": f"http://127.0.0.1:{port}/token",
            "service": "lab-standin",
            "issuer": "lab-standin",
            "rootcertbundle": str(tmp_path / "tokens.crt"),
        }
        settings = {"auth": {"token": token}, "middleware": {"storage": elsewhere}}
        with serving(registry.folder, registry.port, settings=settings):
            one = wanted(f"{registry.repository()}:1", digest)
            program = install(one, paths, Progress(), ways=["image"])
            assert Tokens.asked == ["repository:lab-standin/tool:pull"]
            assert network.requests
            assert not [head for head in network.requests if "authorization:" in head.lower()]
            monkeypatch.setattr(Tokens, "do_GET", lambda self: self.send_error(503))
            empty = LabPaths(tmp_path / "state", tmp_path / "other")
            with pytest.raises(ProgramMissing, match=r"can't be queried: .*authentication"):
                install(one, empty, Progress(), ways=["image"])
    assert subprocess.run([program.path], capture_output=True, text=True).stdout == "tool\n"
