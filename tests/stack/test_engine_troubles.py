"""Failures of the Docker engine and of a registry, on a real engine and a real registry that the tests start.

python -m tests.containers pytest tests/stack/test_engine_troubles.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from labstack.backends.docker import engine as engines
from labstack.backends.docker import images
from labstack.backends.docker.engine import engine_address
from labstack.backends.docker.lock import lock
from labstack.config.digests import known_digest
from labstack.errors import DownloadFailed, EngineUnavailable
from labstack.ports.free import choose
from tests.containers.engine import CACHE, SUPERVISOR, engine, restart
from tests.stack.labs import ROOT, LabHarness
from tests.stack.one_order import place_order, wait_for_outcome
from tests.stack.registry import serve_registry

pytestmark = pytest.mark.skipif(
    SUPERVISOR not in os.environ, reason="for an engine of its own: python -m tests.containers pytest ..."
)
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Registry:
    """A running image registry."""

    folder: Path
    port: int

    @property
    def repository(self) -> str:
        return f"localhost:{self.port}/python"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with one image: tag `one` for this platform, tag `both` listing the same image for amd64 and arm64."""
    registry = Registry(tmp_path_factory.mktemp("registry"), choose(5000, set()))
    client = engines.engine()
    with serve_registry(registry.folder, registry.port):
        image = client.images.get(images.image("python"))
        image.tag(registry.repository, "one")
        for line in client.api.push(registry.repository, "one", stream=True, decode=True):
            assert "error" not in line, line
        manifests = f"http://{registry.repository.replace('/', '/v2/')}/manifests"
        one = httpx.get(f"{manifests}/one", headers={"Accept": MANIFEST})
        entry = {"mediaType": MANIFEST, "size": len(one.content), "digest": one.headers["Docker-Content-Digest"]}
        kinds = [{**entry, "platform": {"os": "linux", "architecture": kind}} for kind in ("amd64", "arm64")]
        both = {"schemaVersion": 2, "mediaType": LIST, "manifests": kinds}
        httpx.put(f"{manifests}/both", content=json.dumps(both), headers={"Content-Type": LIST}).raise_for_status()
        yield registry
        client.images.remove(f"{registry.repository}:one")


def test_lock_records_the_digest_and_pull_enforces_it(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock records the registry's digest and platforms, and a pull accepts only that digest."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    image = f"{registry.repository}:both"
    (locked,) = lock({"images": {"python": {"image": image}}})
    answer = httpx.head(f"http://{registry.repository.replace('/', '/v2/')}/manifests/both", headers={"Accept": LIST})
    assert known_digest(image) == locked.digest == answer.headers["Docker-Content-Digest"]
    assert locked.platforms == ("linux/amd64", "linux/arm64")
    monkeypatch.delenv("LAB_IMAGE_PYTHON")
    monkeypatch.setitem(images.VERSIONS["images"], "python", {"image": image})
    images.pull("python")
    assert images.missing(["python"]) == []
    engines.engine().images.remove(images.image("python"))
    monkeypatch.setitem(images.VERSIONS["images"], "python", {"image": image, "digest": "sha256:" + "0" * 64})
    with pytest.raises(DownloadFailed, match="sha256:0000"):
        images.pull("python")


def test_a_pull_by_tag_pins_the_digest(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that was pulled by its tag is used by its digest from then on, so that a moved tag is noticed."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("LAB_IMAGE_PYTHON")
    image = f"{registry.repository}:both"
    monkeypatch.setitem(images.VERSIONS["images"], "python", {"image": image})
    images.pull("python")
    digest = known_digest(image)
    assert digest.startswith("sha256:")
    assert images.image("python") == f"{image}@{digest}"
    assert images.missing(["python"]) == []
    engines.engine().images.remove(images.image("python"))


def test_full_disk_during_a_pull_is_a_clear_error(
    registry: Registry, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """If the disk fills up during a pull, the error names the image, the cause and the command to inspect the disk."""
    home = Path(tempfile.mkdtemp(prefix="saga-lab-engine-"))  # short, because the path of a socket must be short
    request.addfinalizer(lambda: shutil.rmtree(home, ignore_errors=True))
    with (
        engine(CACHE, home, size="40m") as small,
        serve_registry(registry.folder, registry.port, small.command_in_network),
    ):
        every = {f"LAB_IMAGE_{name.upper()}": f"{registry.repository}:one" for name in images.IMAGES}
        failed = subprocess.run(
            small.command_in_network([sys.executable, "-m", "labstack.cli", "up"]),
            env={**os.environ, **small.environment, **every, "XDG_STATE_HOME": str(tmp_path), "LAB_NAME": "full"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert failed.returncode == 1
    assert f"{registry.repository}:one" in failed.stderr
    assert "no space left" in failed.stderr
    assert "docker system df" in failed.stderr


def test_lab_recovers_after_docker_restarts(shared: LabHarness) -> None:
    """After Docker restarts, `lab status` reports the stopped lab, and `lab up` restores the lab with its data."""
    lab = shared.lab
    order = place_order(lab)
    assert wait_for_outcome(lab, order) == ("COMPLETED", None)
    restart(int(os.environ[SUPERVISOR]), engine_address())
    assert lab.status(memory=False).state in ("stopped", "degraded")
    shared.run_checked("up")
    assert wait_for_outcome(lab, order) == ("COMPLETED", None)
    assert wait_for_outcome(lab, place_order(lab)) == ("COMPLETED", None)


def test_too_old_engine_is_rejected_with_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the API version of the engine and the one that the lab needs."""
    monkeypatch.setattr(engines, "OLDEST_API", (99, 0))
    monkeypatch.setattr(engines, "_clients", {})
    with pytest.raises(EngineUnavailable, match=r"speaks API 1\.\d+; the lab needs 99\.0"):
        engines.engine()
