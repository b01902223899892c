"""`deploy/compose.yaml` agrees with the components of container mode."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from labstack.backends.docker.component import Component
from labstack.observability.observers import NAMES as OBSERVERS
from tools.make_compose import TARGET, Writer, compose_file

COMPOSE: dict[str, Any] = yaml.safe_load(TARGET.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Component]:
    """Return the required components of a fully equipped lab in container mode, by name."""
    made = Writer(tmp_path_factory.mktemp("compose")).parts()
    return {component.name: component for component in made if not component.optional}


def test_file_matches_the_output_of_the_tool() -> None:
    """The file, as tools/make_compose.py writes it, has container mode's images, settings, ports and health checks."""
    assert TARGET.read_text(encoding="utf-8") == compose_file()


def test_file_is_valid_against_the_compose_schema() -> None:
    """The file is valid against Compose's schema, since Compose rejects unknown keys."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(TARGET)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_file_has_every_component(components: dict[str, Component]) -> None:
    """The file has every component of container mode, and in addition only the three short-lived services."""
    assert set(COMPOSE["services"]) == {*components, "topics", "connectors", "mesh"}


def test_ports_are_published_on_localhost_only(components: dict[str, Component]) -> None:
    """Every port is bound to 127.0.0.1, and a component's own port is the one that `lab up` would use."""
    for name, component in components.items():
        ports = COMPOSE["services"][name]["ports"]
        assert all(port.startswith("127.0.0.1:") for port in ports)
        assert f"127.0.0.1:{component.usual_port}:{component.inner_port}" in ports


def test_health_check_requests_the_same_path_as_the_lab(
    components: dict[str, Component], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A component's health check requests the same path as its `is_ready`."""
    requested: list[str] = []

    def record(url: str, **_: object) -> bool:
        requested.append(url)
        return False

    monkeypatch.setattr("labstack.clients.http.answers", record)
    compared = set()
    for name, component in components.items():
        requested.clear()
        if component.kind in ("relay", "watcher", "observer"):
            component.is_ready()
            (url,) = requested
            path = url.removeprefix(f"http://127.0.0.1:{component.port}")
            assert COMPOSE["services"][name]["healthcheck"]["test"][-1].rstrip("')").endswith(path)
            compared.add(name)
    assert compared == {"connect", "connect-watcher", *OBSERVERS}


def test_every_dependency_exists_and_has_a_health_check() -> None:
    """Each dependency of a service is a service, and has a health check if its health is the condition."""
    services = COMPOSE["services"]
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            assert other in services, name
            assert wait["condition"] == "service_completed_successfully" or "healthcheck" in services[other]
    mounted = {config["source"] for service in services.values() for config in service.get("configs", ())}
    assert mounted == set(COMPOSE["configs"])
    for config in COMPOSE["configs"].values():
        assert "content" in config or (TARGET.parent / Path(config["file"])).is_file()
