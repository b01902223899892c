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
from tests.stack.registry import LAYER, Member, Proxy, Registry, pack_layer, serve_registry

HOST_ARCH = this_platform().split("/")[1]
TOOL = [Member("usr/local/bin/tool", b"#!/bin/sh\necho tool\n", mode=0o755), Member("padding", os.urandom(2_000_000))]


def image_entry(image: str, digest: str) -> Entry:
    return Entry("tool", "1", "tool", in_image=InImage(image, digest, "usr/local/bin/tool"))


@contextmanager
def serve_in_thread(server: HTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


class QuietFileHandler(SimpleHTTPRequestHandler):
    """Serves files without support for range requests."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_layers_are_downloaded_from_a_redirected_host(tmp_path: Path) -> None:
    """A redirect is followed; if that host does not support ranges, the layer is downloaded from the beginning."""
    registry = Registry(tmp_path / "registry", choose(5000, set()))
    (registry.folder / "images").mkdir(parents=True)
    files = functools.partial(QuietFileHandler, directory=str(registry.folder / "images"))
    with (
        serve_in_thread(ThreadingHTTPServer(("127.0.0.1", 0), files)) as files_port,
        Proxy(files_port, cut_after=500_000, cuts=1).running() as network,
    ):
        network.open.set()
        redirect = [{"name": "redirect", "options": {"baseurl": f"http://127.0.0.1:{network.port}/"}}]
        with serve_registry(registry.folder, registry.port, settings={"middleware": {"storage": redirect}}):
            digest = registry.upload_index({HOST_ARCH: registry.upload_image(TOOL, architecture=HOST_ARCH)})
            paths = LabPaths(tmp_path / "state", tmp_path / "cache")
            program = install(image_entry(f"{registry.repository()}:1", digest), paths, Progress(), sources=["image"])
            layer = registry.stored_file(registry.upload_blob(pack_layer(TOOL), LAYER)["digest"]).parent.name
    assert subprocess.run([program.path], capture_output=True, text=True).stdout == "tool\n"
    first, second = (head.lower() for head in network.requests if layer in head)
    assert "range:" not in first
    assert "range: bytes=" in second


class TokenHandler(BaseHTTPRequestHandler):
    """Issues any requested token, signed with openssl."""

    folder: Path
    requested_scopes: list[str]

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        kind, name, actions = query["scope"][0].split(":")
        self.requested_scopes.append(query["scope"][0])
        certificate = "".join((self.folder / "tokens.crt").read_text().splitlines()[1:-1])
        now = int(time.time())
        claims = {
            "iss": "lab-standin",
            "sub": "",
            "aud": query["service"][0],
            "jti": str(now),
            "iat": now,
            "nbf": now - 10,
            "exp": now + 300,
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }
        signed = f"{_encode({'typ': 'JWT', 'alg': 'RS256', 'x5c': [certificate]})}.{_encode(claims)}"
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


def _encode(part: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def test_registry_token_is_sent_to_the_registry_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An install uses one anonymous token for the registry only; without it, the error names the authentication."""
    if not shutil.which("openssl"):
        pytest.skip("NOT TESTED: there is no openssl to sign tokens with")
    registry = Registry(tmp_path / "registry", choose(5000, set()))
    registry.folder.mkdir()
    with serve_registry(registry.folder, registry.port):
        digest = registry.upload_index({HOST_ARCH: registry.upload_image(TOOL, architecture=HOST_ARCH)})
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lab-standin"),
            *("-keyout", str(tmp_path / "tokens.key"), "-out", str(tmp_path / "tokens.crt")),
        ],
        check=True,
        capture_output=True,
    )
    TokenHandler.folder, TokenHandler.requested_scopes = tmp_path, []
    paths = LabPaths(tmp_path / "state", tmp_path / "cache")
    files = functools.partial(QuietFileHandler, directory=str(registry.folder / "images"))
    with (
        serve_in_thread(HTTPServer(("127.0.0.1", 0), TokenHandler)) as port,
        serve_in_thread(ThreadingHTTPServer(("127.0.0.1", 0), files)) as files_port,
        Proxy(files_port).running() as network,
    ):
        network.open.set()
        redirect = [{"name": "redirect", "options": {"baseurl": f"http://127.0.0.1:{network.port}/"}}]
        token = {
            "realm": f"http://127.0.0.1:{port}/token",
            "service": "lab-standin",
            "issuer": "lab-standin",
            "rootcertbundle": str(tmp_path / "tokens.crt"),
        }
        settings = {"auth": {"token": token}, "middleware": {"storage": redirect}}
        with serve_registry(registry.folder, registry.port, settings=settings):
            one = image_entry(f"{registry.repository()}:1", digest)
            program = install(one, paths, Progress(), sources=["image"])
            assert TokenHandler.requested_scopes == ["repository:lab-standin/tool:pull"]
            assert network.requests
            assert not [head for head in network.requests if "authorization:" in head.lower()]
            monkeypatch.setattr(TokenHandler, "do_GET", lambda self: self.send_error(503))
            empty = LabPaths(tmp_path / "state", tmp_path / "other")
            with pytest.raises(ProgramMissing, match=r"can't be queried: .*authentication"):
                install(one, empty, Progress(), sources=["image"])
    assert subprocess.run([program.path], capture_output=True, text=True).stdout == "tool\n"
