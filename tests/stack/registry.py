"""A private image registry: Debian's program on a port of this machine, with images that a test builds."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from labstack.waiting import wait_until
from tests.containers.engine import CACHE

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def registry_program() -> Path:
    """Return Debian's registry: this machine's, else one that is unpacked once from its package into the cache."""
    if found := shutil.which("docker-registry"):
        return Path(found)
    if unpacked := sorted(CACHE.glob("engine-*/usr/bin/docker-registry")):
        return unpacked[-1]
    folder = CACHE / "registry"
    if not folder.exists():
        if missing := [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]:
            pytest.skip(f"NOT TESTED: there is no docker-registry, nor {' and '.join(missing)} to unpack Debian's")
        growing = CACHE / "registry.partial"
        shutil.rmtree(growing, ignore_errors=True)
        growing.mkdir(parents=True)
        got = subprocess.run(
            ["apt-get", "download", "-q", "docker-registry"], cwd=growing, capture_output=True, text=True
        )
        packages = list(growing.glob("*.deb"))
        if not packages:
            pytest.skip(f"NOT TESTED: Debian's docker-registry can't be fetched: {got.stderr[-300:]}")
        subprocess.run(["dpkg-deb", "-x", packages[0], growing], check=True)
        growing.rename(folder)
    return folder / "usr/bin/docker-registry"


@contextmanager
def serve_registry(
    folder: Path,
    port: int,
    inside: Callable[[Sequence[str]], Sequence[str]] = lambda c: c,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Run the registry on the content of a folder, with further settings of its configuration file."""
    config = folder / "config.json"
    where = {"filesystem": {"rootdirectory": str(folder / "images")}, "delete": {"enabled": True}}
    listen = {"addr": f"127.0.0.1:{port}"}
    config.write_text(json.dumps({"version": 0.1, "storage": where, "http": listen, **(settings or {})}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(inside([str(registry_program()), "serve", str(config)]), stdout=log, stderr=log)
    try:
        probe = [sys.executable, "-c", f"import socket; socket.create_connection(('127.0.0.1', {port}))"]
        assert wait_until(lambda: subprocess.run(inside(probe), stderr=subprocess.DEVNULL).returncode == 0, 20)
        yield
    finally:
        process.terminate()
        process.wait(10)


@dataclass(frozen=True)
class Member:
    """One entry of a layer: a file by default."""

    name: str
    content: bytes = b""
    kind: bytes = tarfile.REGTYPE
    mode: int = 0o644
    link: str = ""


def pack_layer(members: Sequence[Member]) -> bytes:
    """Pack a layer, with names as given; the same members result in the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            header = tarfile.TarInfo(member.name)
            header.type, header.mode, header.linkname = member.kind, member.mode, member.link
            header.size = len(member.content)
            archive.addfile(header, io.BytesIO(member.content))
    return gzip.compress(buffer.getvalue(), 1, mtime=0)


@dataclass(frozen=True)
class Registry:
    """A running registry.

    Parameters
    ----------
    folder : Path
        Folder of its files.
    port : int
        Its port on 127.0.0.1.
    """

    folder: Path
    port: int

    def repository(self, name: str = "tool", port: int = 0) -> str:
        return f"127.0.0.1:{port or self.port}/lab-standin/{name}"

    def url(self, path: str, name: str = "tool") -> str:
        return f"http://127.0.0.1:{self.port}/v2/lab-standin/{name}/{path}"

    def upload_blob(self, content: bytes, media_type: str, name: str = "tool") -> dict[str, Any]:
        """Upload a blob and return its descriptor."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = httpx.post(self.url("blobs/uploads/", name)).raise_for_status()
        where = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
        httpx.put(
            where, content=content, headers={"Content-Type": "application/octet-stream"}, timeout=60
        ).raise_for_status()
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def upload_manifest(self, content: dict[str, Any], reference: str = "", name: str = "tool") -> dict[str, Any]:
        """Upload a manifest or index, under its digest or another reference, and return its descriptor."""
        raw = json.dumps({"schemaVersion": 2, **content}).encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        httpx.put(
            self.url(f"manifests/{reference or digest}", name),
            content=raw,
            headers={"Content-Type": content["mediaType"]},
        ).raise_for_status()
        return {"mediaType": content["mediaType"], "digest": digest, "size": len(raw)}

    def upload_image(self, *layers: Sequence[Member], architecture: str = "amd64", kind: str = LAYER) -> dict[str, Any]:
        """Upload an image for one platform, from its lowest layer up, and return its descriptor."""
        config = {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
        return self.upload_manifest(
            {
                "mediaType": MANIFEST,
                "config": self.upload_blob(json.dumps(config).encode(), CONFIG),
                "layers": [self.upload_blob(pack_layer(layer), kind) for layer in layers],
            }
        )

    def upload_index(self, images: dict[str, dict[str, Any]], tag: str = "1") -> str:
        """Upload an index of images by architecture, with an attestation, as builders add it, and return its digest."""
        listed = [{**one, "platform": {"os": "linux", "architecture": kind}} for kind, one in images.items()]
        attestation = {**listed[0], "platform": {"os": "unknown", "architecture": "unknown"}}
        return str(self.upload_manifest({"mediaType": INDEX, "manifests": [attestation, *listed]}, tag)["digest"])

    def stored_file(self, digest: str) -> Path:
        """Return the file that stores a blob or a manifest."""
        kind, hexadecimal = digest.split(":")
        return self.folder / "images/docker/registry/v2/blobs" / kind / hexadecimal[:2] / hexadecimal / "data"


@dataclass
class Proxy:
    """A network between a client and a registry that cuts connections, or delays them.

    Parameters
    ----------
    target : int
        The registry's port.
    cut_after : int, optional
        Bytes of a response after which its connection is cut.
    cuts : int
        Number of connections to cut; later ones are not cut.
    """

    target: int
    cut_after: int | None = None
    cuts: int = 0
    open: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    port: int = 0

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        """Listen until the block ends."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
            threads = [threading.Thread(target=self._serve, args=(server, self.threads))]
            threads[0].start()
            try:
                yield self
            finally:
                self.open.set()
                server.shutdown(socket.SHUT_RDWR)
                threads[0].join(10)
                for thread in self.threads:
                    thread.join(10)

    threads: list[threading.Thread] = field(default_factory=list)

    def requests_for(self, digest: str) -> list[str]:
        """Return the heads of the requests for a blob."""
        return [head for head in self.requests if f"/blobs/{digest}" in head]

    def _serve(self, server: socket.socket, threads: list[threading.Thread]) -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                thread = threading.Thread(target=self._forward, args=(client,))
                threads.append(thread)
                thread.start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.target)) as registry, suppress(OSError):
            while head := _read_head(client):
                self.requests.append(head)
                self.open.wait(60)
                registry.sendall(head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
                sent = 0
                while piece := registry.recv(1 << 16):
                    if self.cut_after is not None and self.cuts > 0 and sent + len(piece) > self.cut_after:
                        client.sendall(piece[: self.cut_after - sent])
                        self.cuts -= 1
                        return
                    client.sendall(piece)
                    sent += len(piece)
                return


def _read_head(client: socket.socket) -> str:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = client.recv(1 << 16)
        if not piece:
            return ""
        head += piece
    return head.decode()
