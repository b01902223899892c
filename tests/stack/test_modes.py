"""The choice of a lab's backend, and a lab whose Docker engine is unavailable."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import docker
import pytest

from labstack import Lab
from labstack.backends.choice import choose_mode
from labstack.backends.docker import engine, location
from labstack.errors import EngineUnavailable
from labstack.lab import access_of
from labstack.lifecycle.starting import prefetch
from labstack.progress import Progress
from labstack.state import Phase, StateStore
from tests.stack.labs import LabHarness


@pytest.fixture
def make_container_lab(
    harness: LabHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[Phase], Callable[..., Lab]]:
    """Make a lab whose state records the Docker backend, but whose engine is unavailable."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setenv("LAB_MODE", "auto")

    def make(phase: Phase) -> Callable[..., Lab]:
        store = StateStore(harness.paths)
        harness.paths.make()
        state = store.read()
        state.mode, state.phase = "containers", phase
        store.write(state)
        return lambda **keywords: Lab(paths=harness.paths, **keywords)

    return make


@pytest.mark.parametrize(("version", "is_old"), [("1.40", True), ("1.41", False), ("1.100", False), ("2.0", False)])
def test_engine_older_than_docker_20_is_rejected(version: str, is_old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """API 1.41, of Docker 20.10, is the oldest that the lab accepts; the parts of a version are compared as numbers."""
    client = SimpleNamespace(api=SimpleNamespace(), version=lambda: {"ApiVersion": version})
    monkeypatch.setattr(docker, "DockerClient", lambda **_: client)
    monkeypatch.setattr(location, "is_elsewhere", lambda client: False)
    # pytest's folder can have too long a path for a socket.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        address = f"{folder}/s"
        listening.bind(address)
        listening.listen()
        refused = pytest.raises(EngineUnavailable, match=rf"speaks API {version}; the lab needs 1\.41\.")
        with refused if is_old else nullcontext():
            assert engine._connect(f"unix://{address}") is client


def test_local_backend_is_chosen_without_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Docker, the lab chooses the local backend and says why; for containers, the error names the next step."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///missing/docker.sock")  # a socket's path may have 107 bytes
    monkeypatch.setenv("LAB_MODE", "auto")
    choice = choose_mode()
    assert (choice.mode, "not installed, or not running" in choice.reason) == ("local", True)
    with pytest.raises(EngineUnavailable, match="can't be reached") as refused:
        choose_mode("containers")
    assert "LAB_MODE=local" in refused.value.next_step


def test_stopped_container_lab_starts_without_docker(
    make_container_lab: Callable[[Phase], Callable[..., Lab]],
) -> None:
    """A stopped lab has no backend; the next startup chooses one."""
    lab = make_container_lab("stopped")()
    prefetch(access_of(lab), Progress())
    assert access_of(lab).backend().mode == "local"


def test_up_is_rejected_while_the_docker_engine_is_unavailable(
    make_container_lab: Callable[[Phase], Callable[..., Lab]],
) -> None:
    """A startup is rejected and changes nothing while the lab's engine is unavailable; the suggested setting works.

    Without the engine, the lab can't know whether its containers run.
    """
    make = make_container_lab("ready")
    with pytest.raises(EngineUnavailable, match="can't be reached") as refused:
        make().up()
    assert "LAB_MODE=local" in refused.value.next_step
    lab = make(mode="local")
    kept = StateStore(access_of(lab).paths).read()
    assert (kept.mode, kept.phase) == ("containers", "ready")
    prefetch(access_of(lab), Progress())
    assert access_of(lab).backend().mode == "local"
