"""Write `deploy/compose.yaml` from the components of the container backend:

    python tools/make_compose.py

Images, environment variables, commands, files, volumes and ports are those that `lab up` gives its containers. Three
short-lived services (`deploy/setup.py`) replace the setup steps that the lab runs between the starts of its programs.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from testcontainers.core.container import DockerContainer

from labservices.settings import Settings, variable
from labstack.backends.components import Kind
from labstack.backends.docker.agent import PORT as AGENT_PORT
from labstack.backends.docker.backend import ContainerBackend
from labstack.backends.docker.component import Component
from labstack.backends.docker.components.istiod import FOLDER as MESH_FOLDER
from labstack.backends.docker.images import SERVICES
from labstack.backends.docker.network import FIRST_ADDRESS
from labstack.clients.database_server import ADMINISTRATOR, ROLES, DatabaseServer
from labstack.clients.relay import SHORT_PAUSE, connector_config, connector_name
from labstack.config.paths import CONFIG, LabPaths
from labstack.config.services import load_services, load_topics
from labstack.config.versions import VERSIONS
from labstack.gateway.store import dump
from labstack.observability.observers import NAMES as OBSERVERS
from labstack.state import StateStore

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "deploy" / "compose.yaml"
SETUP, PLAN = "/opt/saga-lab/setup.py", "/etc/saga-lab/setup.json"
SUBNET = "10.83.83"
NO_PROXY = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
"""For the health checks: Docker's configuration may set a proxy in every container."""
DOLLAR = "\0"
"""Placeholder for the dollar sign of a Compose variable, until every other dollar sign is escaped."""
VARIABLE = f"{DOLLAR}{{SAGA_LAB_PASSWORD:-saga-lab}}"

HEADER = """\
# The whole system for `docker compose up`: `docker compose -f deploy/compose.yaml up --wait`, in the project's folder.
# Docker Compose 2.24 or newer. The gateway is http://127.0.0.1:8080, Grafana http://127.0.0.1:3000. `down --volumes`
# removes everything. SAGA_LAB_PASSWORD (letters and digits) starts every password of the databases, LAB_IMAGE_KAFKA and
# the like replace an image.
#
# Made by tools/make_compose.py from lab-stack/ and the components of container mode: edit those, not this file. Unlike
# `lab up` it has no order-v2 and no metrics of Kafka's and Connect's Java, and the notebooks don't run on it.
"""


@dataclass
class Description:
    """Record a component's container settings instead of passing them to Docker."""

    environment: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """Content by path in the container."""

    def with_env(self, name: str, value: str) -> None:
        self.environment[name] = value

    def with_envs(self, **variables: str) -> None:
        self.environment |= variables

    def with_command(self, command: list[str]) -> None:
        self.command = list(command)

    def with_copy_into_container(self, content: bytes, path: str, mode: int) -> None:
        assert mode == 0o644, path
        self.files[path] = content.decode()


class Described(ContainerBackend):
    """A container backend with fixed addresses for its components."""

    def _address(self, name: str) -> str:
        return address(self.components().index(name))


def address(position: int) -> str:
    """Return the IP address of the component at a position in the list."""
    return f"{SUBNET}.{FIRST_ADDRESS + position}"


def described(folder: Path, observers: tuple[str, ...]) -> Described:
    """Return the backend of a lab with these observers."""
    paths = LabPaths(folder / "state" / "-".join(("lab", *observers)), folder / "cache")
    paths.state.mkdir(parents=True)
    for service in load_services():
        secret = paths.config(service.database) / "secret"
        secret.parent.mkdir(parents=True)
        secret.write_text(service.database)
    store = StateStore(paths)
    state = store.read()
    state.mode, state.control_plane, state.observed, state.observers = "containers", "istiod", True, list(observers)
    backend = Described(paths, store, load_services(), state)
    parts = {name: backend.component(name) for name in backend.components()}
    ports = {name: part.usual_port for name, part in parts.items()}
    ports |= {name: usual for part in parts.values() for name, (usual, _) in part.more_ports.items()}
    state.ports = ports
    return Described(paths, store, load_services(), state)


def is_ours(component: Component) -> bool:
    """Report whether a component runs in the image that is built from `labservices/`."""
    return component.kind in ("service", "watcher")


def image(component: Component) -> str:
    """Return the image of a component, by digest if the versions file has one."""
    return SERVICES if is_ours(component) else pinned(component.image_name)


def pinned(name: str) -> str:
    """Return an image of the versions file. ``LAB_IMAGE_POSTGRES`` and so on override it, as in the lab."""
    entry = VERSIONS["images"][name]
    reference = f"{entry['image']}@{entry['digest']}" if "digest" in entry else entry["image"]
    return f"{DOLLAR}{{LAB_IMAGE_{name.upper()}:-{reference}}}"


def build() -> dict[str, Any]:
    """Return the build section for the services' image."""
    return {"context": "..", "dockerfile": "labservices/Dockerfile", "args": {"PYTHON": pinned("python")}}


def bash_probe(port: int, path: str, words: str) -> list[str]:
    """Return a health check for an image with bash but no HTTP client."""
    request = f"GET {path} HTTP/1.1\\r\\nHost: envoy\\r\\nConnection: close\\r\\n\\r\\n"  # Envoy rejects HTTP/1.0
    script = f"exec 3<>/dev/tcp/127.0.0.1/{port}; printf '{request}' >&3; grep -q '{words}' <&3"
    return ["CMD", "bash", "-c", script]


def python_probe(port: int, path: str, status: str = "") -> list[str]:
    """Return a health check for the services' image."""
    answer = f"urllib.request.urlopen('http://127.0.0.1:{port}{path}')"
    script = f"assert json.load({answer})['status'] == '{status}'" if status else answer
    return ["CMD", "python", "-c", f"import json, urllib.request; {script}"]


def health_check(component: Component) -> list[str]:
    """Return the command of a component's health check, which probes what `lab up` probes."""
    port = component.inner_port
    checks: dict[Kind, list[str]] = {
        "database": ["CMD", "pg_isready", "--host", "127.0.0.1", "--username", ADMINISTRATOR],
        "broker": ["CMD", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/19092"],
        "relay": ["CMD", "curl", "--fail", "--silent", "--output", "/dev/null", f"http://127.0.0.1:{port}/connectors"],
        "watcher": python_probe(port, "/metrics"),
        "service": python_probe(port, "/healthz/ready", "ready"),
        "gateway": bash_probe(9901, "/listeners", "8080"),
        "control plane": ["CMD", "curl", "--silent", "--output", "/dev/null", f"http://127.0.0.1:{port}/ready"],
        "observer": ["CMD", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{port}{ready_path(component)}"],
    }
    return checks[component.kind]


def ready_path(component: Component) -> str:
    """Return the path that an observer answers with status 200 once it is ready."""
    return str(getattr(component, "ready_path", ""))


def depends_on(component: Component) -> dict[str, str]:
    """Return the dependencies of a component: the condition by service of the file."""
    healthy, done = "service_healthy", "service_completed_successfully"
    if component.kind == "service":
        return {component.database.name: healthy, "topics": done}  # type: ignore[attr-defined]
    return {
        "relay": {"kafka": healthy},
        "watcher": {"connectors": done},
        "gateway": {"mesh": done},
    }.get(component.kind, {})


class Writer:
    """Build the content of the file.

    Parameters
    ----------
    folder : Path
        A folder for the state that the components need.
    """

    def __init__(self, folder: Path) -> None:
        # Kafka and Connect as in a lab without Prometheus: its agent is not a file of this project.
        self.plain = described(folder, ("jaeger", "grafana"))
        self.full = described(folder, OBSERVERS)
        self.configs: dict[str, dict[str, str]] = {}
        files = [path for path in sorted(CONFIG.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
        self.sources = {path.read_bytes(): path for path in files}

    def document(self) -> dict[str, Any]:
        """Return the whole file."""
        parts = [part for part in self.parts() if not part.optional]
        services = {part.name: self.service(part, position) for position, part in enumerate(parts)}
        services |= self.setup()
        mounts = {mount for service in services.values() for mount in service.get("volumes", ())}
        return {
            "name": "saga-lab",
            "services": services,
            "networks": {"default": {"ipam": {"config": [{"subnet": f"{SUBNET}.0/24"}]}}},
            "volumes": {name: {} for name in sorted({mount.partition(":")[0] for mount in mounts})},
            "configs": self.configs,
        }

    def service(self, component: Component, position: int) -> dict[str, Any]:
        """Return a component as a service of the file."""
        plain = component.kind in ("broker", "relay")
        asked = (self.plain if plain else self.full).component(component.name)
        container = Description()
        asked.configure(cast("DockerContainer", container))
        if component.kind == "control plane":
            container.files.pop(f"{MESH_FOLDER}/README")
        ports = {component.inner_port: component.port}
        ports |= {inner: usual for usual, inner in component.more_ports.values()}
        volumes = [f"{component.name}:{component.volume}"] if component.volume else []
        volumes += [f"{component.name}-shared:{component.shared_volume}"] if component.shared_volume else []
        volumes += [f"mesh:{MESH_FOLDER}"] if component.kind == "control plane" else []
        conditions = depends_on(component)
        return {
            key: value
            for key, value in {
                "image": image(component),
                "build": build() if is_ours(component) else None,
                "hostname": component.name,
                "entrypoint": list(component.entry_point),
                "command": container.command,
                "environment": container.environment | NO_PROXY,
                "configs": [self.config(path, text, component) for path, text in container.files.items()],
                "volumes": volumes,
                "ports": [f"127.0.0.1:{host_port}:{inner}" for inner, host_port in ports.items()],
                "networks": {"default": {"ipv4_address": address(position)}},
                "depends_on": {name: {"condition": condition} for name, condition in conditions.items()},
                "healthcheck": {
                    "test": health_check(component),
                    "interval": "2s",
                    "timeout": "5s",
                    "retries": 60,
                },
                "restart": "on-failure" if component.restarts else None,
                "stop_grace_period": f"{component.grace:g}s",
            }.items()
            if value
        }

    def config(self, target: str, text: str, component: Component) -> dict[str, str]:
        """Add a file to the configs, and return its mount for a service."""
        if component.name == "prometheus" and target.endswith("/prometheus.yml"):
            text = without_agents(text)
        if source := self.sources.get(text.encode()):
            entry = {"file": f"../{source.relative_to(ROOT).as_posix()}"}
        else:
            entry = {"content": text}
        name = next((name for name, other in self.configs.items() if other == entry), "")
        if not name:
            name = Path(target).name.replace(".", "-")
            if name in self.configs:
                name = f"{component.name}-{name}"
            if name in self.configs:
                name += "-" + hashlib.sha256(text.encode()).hexdigest()[:6]
            self.configs[name] = entry
        # The program that makes Kafka's configuration appends to its own copy, which keeps this mode.
        return {"source": name, "target": target, "mode": "0644"}

    def setup(self) -> dict[str, Any]:
        """Return the three short-lived services."""
        healthy = {"condition": "service_healthy"}
        databases = [part.inner_server for part in self.databases()]
        topics = load_topics(load_services())
        plan = {
            "topics": {"partitions": topics.partitions, "names": topics.names, "config": topics.config},
            "connectors": {
                connector_name(server.service): connector_config(server, SHORT_PAUSE) for server in databases
            },
        }
        self.configs["setup-py"] = {"file": "setup.py"}
        self.configs["setup-json"] = {"content": json.dumps(plan, indent=2)}
        self.configs["mesh-documents"] = {"content": dump(self.full.mesh_documents())}
        waits = {
            "topics": {"kafka": healthy},
            "connectors": {"connect": healthy, **{server.service: healthy for server in databases}},
            "mesh": {"istiod": healthy},
        }
        return {
            name: {
                "image": SERVICES,
                "build": build(),
                "entrypoint": ["python", SETUP, name],
                "configs": [
                    {"source": "setup-py", "target": SETUP},
                    {"source": "setup-json", "target": PLAN},
                    *([{"source": "mesh-documents", "target": "/etc/saga-lab/mesh.yaml"}] if name == "mesh" else []),
                ],
                "depends_on": needs,
                # istiod's image and this one have different users.
                **({"user": "0:0", "volumes": [f"mesh:{MESH_FOLDER}"]} if name == "mesh" else {}),
            }
            for name, needs in waits.items()
        }

    def databases(self) -> list[Any]:
        """Return the components that are databases."""
        return [part for part in self.parts() if part.kind == "database"]

    def parts(self) -> list[Component]:
        """Return the components of a lab with all observers."""
        return [self.full.component(name) for name in self.full.components()]


def without_agents(configuration: str) -> str:
    """Return Prometheus' configuration without the jobs that scrape an agent."""
    document = yaml.safe_load(configuration)
    document["scrape_configs"] = [
        job
        for job in document["scrape_configs"]
        if not any(t.endswith(f":{AGENT_PORT}") for group in job.get("static_configs", ()) for t in group["targets"])
    ]
    return str(yaml.safe_dump(document, sort_keys=False))


class Dumper(yaml.SafeDumper):
    """A YAML dumper that writes multi-line strings as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


@cache
def passwords() -> dict[str, str]:
    """Return what the file has instead of the password of each database and role."""
    found = {}
    for service in load_services():
        server = DatabaseServer("", 0, service.name, service.database)
        for role in (*ROLES, service.name):
            found[server.password(role)] = f"{VARIABLE}-{service.database}-{role}"
    return found


def escaped(value: Any) -> Any:
    """Return a value with escaped dollar signs, except those of Compose variables, and passwords with a variable."""
    if isinstance(value, dict):
        return {key: escaped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(inner) for inner in value]
    if isinstance(value, str):
        for password, variable in passwords().items():
            value = value.replace(password, variable)
        return value.replace("$", "$$").replace(DOLLAR, "$")
    return value


@contextmanager
def without(names: Iterable[str]) -> Iterator[None]:
    """Remove environment variables for the duration of the block."""
    saved = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(saved)


def compose_file() -> str:
    """Return the content of `deploy/compose.yaml`."""
    # The services' settings that the caller's environment has do not belong into the file.
    settings = {variable(name) for name in Settings.model_fields} & set(os.environ)
    with tempfile.TemporaryDirectory(prefix="saga-lab-compose-") as folder, without(settings):
        document = escaped(Writer(Path(folder)).document())
    return HEADER + "\n" + yaml.dump(document, Dumper=Dumper, sort_keys=False, width=118)


if __name__ == "__main__":
    TARGET.write_text(compose_file(), encoding="utf-8")
    print(TARGET.relative_to(ROOT))
