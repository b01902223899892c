"""A Docker engine whose ports are elsewhere, and the user's Docker configuration. No engine is needed."""

from __future__ import annotations

import json
import platform
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from docker.errors import NotFound

from labstack.backends.choice import choose_mode
from labstack.backends.docker import location, user_config
from labstack.backends.docker.engine import engine_address
from labstack.errors import EngineUnavailable

HERE = next(iter(psutil.net_if_addrs()))


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a Docker configuration that the test writes."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "LAB_MODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "config.json"


def engine_in(interface: str, *, container: str = "", **info: Any) -> Any:
    """Return a client of an engine on this kernel whose bridge is this interface."""

    def inspect_container(name: str) -> dict[str, Any]:
        if not container:
            raise NotFound("no such container")
        return {"HostConfig": {"NetworkMode": container}}

    bridge = {"Options": {location.BRIDGE_NAME: interface}}
    api = SimpleNamespace(inspect_network=lambda name: bridge, inspect_container=inspect_container)
    return SimpleNamespace(api=api, info=lambda: {"KernelVersion": platform.release(), **info})


def test_an_engine_on_another_machine_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """With DOCKER_HOST on another machine, the lab runs local processes and says why, without contacting it."""
    monkeypatch.setenv("LAB_MODE", "auto")
    for address in ("tcp://192.0.2.1:2375", "ssh://me@192.0.2.1"):
        monkeypatch.setenv("DOCKER_HOST", address)
        choice = choose_mode()
        assert (choice.mode, "it runs on 192.0.2.1" in choice.reason) == ("local", True)
        with pytest.raises(EngineUnavailable, match=r"ports of the Docker engine at .* can't be reached") as refused:
            choose_mode("containers")
        assert "LAB_MODE=local" in refused.value.next_step


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:2375", "tcp://localhost:2375", "unix:///var/run/docker.sock"])
def test_an_engine_of_this_machine_is_recognized(address: str) -> None:
    """An address of this machine is not another machine's."""
    assert location.remote_host(address) == ""


def test_an_engine_in_another_network_is_recognized() -> None:
    """An engine on this kernel whose bridge is missing here runs outside, unless it forwards its ports."""
    assert not location.is_elsewhere(engine_in(HERE))
    assert location.is_elsewhere(engine_in("docker9"))
    assert not location.is_elsewhere(engine_in("docker9", KernelVersion="6.6.0-a-virtual-machine"))
    for info in ({"OperatingSystem": "Docker Desktop"}, {"SecurityOptions": ["name=rootless"]}):
        assert not location.is_elsewhere(engine_in("docker9", **info))
        assert location.is_elsewhere(engine_in("docker9", container="bridge", **info))
        assert not location.is_elsewhere(engine_in("docker9", container="host", **info))


def test_a_port_that_only_the_container_has_is_out_of_reach() -> None:
    """A port counts as out of reach if the container listens on it, and nothing answers on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        listening = "  sl  local_address rem_address   st\n   0: 00000000:1538 00000000:0000 0A 00000000:00000000\n"
        assert not location.is_out_of_reach(listening, 5432, port)
    assert location.is_out_of_reach(listening, 5432, port)
    assert not location.is_out_of_reach(listening, 9092, port)
    assert not location.is_out_of_reach("", 5432, port)


@pytest.mark.parametrize(
    "content",
    [
        {"credsStore": "desktop.exe"},
        {"credHelpers": {"https://index.docker.io/v1/": "gone"}},
        {"auths": {"https://index.docker.io/v1/": {"auth": "%%%"}}},
        {"auths": ["not a mapping"]},
        ["not a configuration"],
    ],
    ids=str,
)
def test_public_images_need_no_credentials(docker_config: Path, content: object) -> None:
    """A credential helper that does not run, or damaged credentials, are left out, and the reason names the file."""
    docker_config.write_text(json.dumps(content))
    found, reason = user_config.credentials("apache/kafka")
    assert (found, str(docker_config) in reason) == ({}, True)
    assert user_config.NoCredentials().get_all_credentials() == {}


def test_credentials_of_a_registry_are_used(docker_config: Path) -> None:
    """Credentials in the configuration apply to their registry only."""
    docker_config.write_text(json.dumps({"auths": {"mirror.example": {"auth": "bWU6c2VjcmV0"}}}))
    assert user_config.credentials("mirror.example/kafka")[0]["username"] == "me"
    assert user_config.credentials("apache/kafka") == ({}, "")


def test_a_byte_order_mark_is_accepted(docker_config: Path) -> None:
    """A context in a file with a byte order mark, as some editors write it, applies."""
    docker_config.write_text(json.dumps({"currentContext": "default", "auths": {}}), encoding="utf-8-sig")
    assert user_config.read()["currentContext"] == "default"
    assert user_config.problem() == ""


def test_a_missing_context_is_named(docker_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the current context does not exist, the error names it, its file or variable, and how to choose another."""
    docker_config.write_text(json.dumps({"currentContext": "gone"}))
    with pytest.raises(EngineUnavailable, match=f"'gone' does not exist; currentContext in {docker_config}") as refused:
        choose_mode("containers")
    assert "docker context" in refused.value.next_step
    assert "'gone' does not exist" in choose_mode("auto").reason
    monkeypatch.setenv("DOCKER_CONTEXT", "lost")
    with pytest.raises(EngineUnavailable, match="'lost' does not exist; DOCKER_CONTEXT"):
        engine_address()


def test_a_damaged_configuration_is_named_if_docker_does_not_answer(
    docker_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is not JSON may hide the engine's address, so the error about the engine names the file, too."""
    docker_config.write_text("{,}")
    monkeypatch.setenv("DOCKER_HOST", "unix:///missing/docker.sock")
    with pytest.raises(EngineUnavailable, match=f"{docker_config} can't be read"):
        choose_mode("containers")
