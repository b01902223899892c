"""The interface of a backend, which runs the lab's components as local processes or containers, or on a cluster.

The notebooks, the verbs and the tests use only this interface, so they do not depend on a particular backend.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from labstack.backends import components as interfaces
from labstack.clients.database_server import DatabaseServer
from labstack.config.services import ServiceEntry
from labstack.gateway.addresses import Addresses
from labstack.progress import Progress
from labstack.state import LabState

if TYPE_CHECKING:
    from labstack.gateway.steering import Steering
    from labstack.gateway.store import ConfigurationStore
    from labstack.istio.documents import Document

ComponentState = Literal["running", "paused", "stopped", "failed"]


@dataclass(frozen=True)
class ComponentStatus:
    """The status of one component.

    Attributes
    ----------
    state : str
        ``running``, ``paused`` (SIGSTOP, or ``docker pause``), ``stopped`` (on purpose, or never started) or
        ``failed`` (it should run but does not). A cluster starts a failed component again by itself.
    pid : int, optional
        Process ID, with the local backend.
    container : str, optional
        Name of the container, with the container backend.
    pods : tuple of str
        Names of the pods, on a cluster.
    rss_bytes : int, optional
        Memory of its process tree in bytes (PSS where the system reports it).
    log : str
        Location of its log.
    """

    state: ComponentState
    pid: int | None = None
    container: str | None = None
    pods: tuple[str, ...] = ()
    rss_bytes: int | None = None
    log: str = ""


@dataclass(frozen=True)
class Endpoints:
    """The addresses of a lab's components."""

    services: dict[str, str] = field(default_factory=dict)
    databases: dict[str, str] = field(default_factory=dict, repr=False)  # with passwords
    """The databases, for the operator: a role that may do what the lessons do."""
    readable: dict[str, str] = field(default_factory=dict, repr=False)
    """The databases, for a role that can only read."""
    kafka: str = ""
    connect: str = ""
    watcher: str = ""
    gateway: str = ""
    envoy_admin: str = ""
    istiod: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    """Additional versions of services, by component name; only those that were started explicitly."""
    observers: dict[str, str] = field(default_factory=dict)
    """The observability components of this lab, by name."""

    @property
    def prometheus(self) -> str:
        """The URL of Prometheus; empty if the lab has none."""
        return self.observers.get("prometheus", "")

    @property
    def alertmanager(self) -> str:
        """The URL of Alertmanager; empty if the lab has none."""
        return self.observers.get("alertmanager", "")

    @property
    def jaeger(self) -> str:
        """The URL of Jaeger's query interface; empty if the lab has none."""
        return self.observers.get("jaeger", "")

    @property
    def grafana(self) -> str:
        """The URL of Grafana; empty if the lab has none."""
        return self.observers.get("grafana", "")

    def client(self, service: str) -> str:
        """Return the base URL for requests to a service: the gateway's, or without a gateway the service's own."""
        return self.gateway or self.services[service]

    def to_json(self) -> dict[str, object]:
        """Return the endpoints as ``lab status --json`` prints them."""
        return {
            **({"gateway": self.gateway} if self.gateway else {}),
            **self.services,
            **self.versions,
            "kafka": self.kafka,
            "connect": self.connect,
            **({"envoy-admin": self.envoy_admin} if self.envoy_admin else {}),
            **({"istiod": self.istiod} if self.istiod else {}),
            **self.observers,
            "databases": dict(self.databases),
        }


class Backend(Protocol):
    """A backend that starts, inspects, breaks and stops components. Every method returns when it is done."""

    mode: str
    services: tuple[ServiceEntry, ...]
    state: LabState
    """Snapshot of the lab's state, which the methods below update and write."""

    def update(self, **changes: Any) -> None:
        """Change these fields of the snapshot, and write it to the state file."""

    def prepare(self, progress: Progress) -> None:
        """Download and verify the programs that components need."""

    def prefetch(self, progress: Progress) -> None:
        """Prepare a later start, so that it needs no network; start nothing."""

    def components(self) -> list[str]:
        """Return the names of all components, in startup order."""

    def required(self) -> list[str]:
        """Return the names of the components that a complete lab needs."""

    def observers(self) -> list[str]:
        """Return the names of the observability components; the lab is complete without them."""

    def spans(self, service: str) -> str:
        """Return the spans that a service wrote to its file, as it does in a lab without Jaeger.

        Each line is one export: an OTLP ``ExportTraceServiceRequest`` in JSON. Empty if the service wrote none.
        """

    def component(self, name: str) -> interfaces.Component:
        """Return a component by name."""

    @property
    def gateway(self) -> interfaces.Gateway:
        """The gateway."""

    @property
    def control_plane(self) -> interfaces.ControlPlane | None:
        """The gateway's control plane; None if the lab's translator configures the gateway."""

    def addresses(self) -> Addresses:
        """Return the addresses of the services and the gateway, as the mesh needs them."""

    def mesh_store(self) -> ConfigurationStore:
        """Return the storage of the mesh configuration in force."""

    def for_gateway(self, documents: Iterable[Document]) -> list[Document]:
        """Return documents of the mesh configuration as this lab's control plane receives them."""

    def steering(self) -> Steering:
        """Return the gateway's control plane, to apply a configuration."""

    def launch(self, name: str) -> None:
        """Start a component if it is not running; do not wait for it."""

    def launch_here(self, name: str, argv: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Stop a service, and start it in this terminal, as a child of this process.

        Parameters
        ----------
        name : str
            The service.
        argv : sequence of str
            Program and arguments to start instead of the lab's, such as a debugger's.

        Raises
        ------
        LabError
            The component is not a service, or this backend can't run it here.
        ProgramMissing
            The program does not exist.
        """

    def await_ready(self, name: str, meanwhile: Callable[[], None] = ...) -> None:
        """Wait until a component is ready; raise ComponentFailed if it exits or times out.

        `meanwhile` is called before each probe, and raises to abort the wait.
        """

    def prepare_for_observer(self, observer: str) -> None:
        """Prepare the running components for an observability component that joins them."""

    def stop(self, name: str) -> None:
        """Stop a component gracefully."""

    def kill(self, name: str) -> None:
        """Kill a component at once (SIGKILL)."""

    def pause(self, name: str) -> None:
        """Pause a component (SIGSTOP, or `docker pause`)."""

    def resume(self, name: str) -> None:
        """Resume a paused component."""

    def reload(self, name: str) -> None:
        """Let a component read its configuration again (SIGHUP)."""

    def inspect(self, name: str, *, memory: bool = False) -> ComponentStatus:
        """Return the current status of a component."""

    def endpoints(self) -> Endpoints:
        """Return the addresses of the components."""

    def database_server(self, service: str) -> DatabaseServer:
        """Return the database server of a service, as programs on this machine reach it."""

    def database_for_connect(self, service: str) -> DatabaseServer:
        """Return the database server of a service, as Connect reaches it."""

    def server_for_extensions(self, service: str) -> DatabaseServer:
        """Return the database server of a service, to create the database of an extension service in it.

        Raises
        ------
        LabError
            This backend does not let the lab create databases.
        """

    def register_connector(self, service: str, meanwhile: Callable[[], None]) -> None:
        """Make Connect run the connector of a service.

        `meanwhile` is called while waiting, and raises to abort the wait.
        """

    def every_instance(self) -> AbstractContextManager[dict[str, list[str]]]:
        """Yield the base URLs of all instances of each service, which share its consumer group."""

    def log(self, name: str, lines: int) -> str:
        """Return the last lines of a component's log."""

    def follow(self, name: str) -> Iterator[str]:
        """Yield each line that a component writes to its log from now on, without end."""

    def down(self) -> None:
        """Stop everything that belongs to this lab, regardless of who started it."""

    def purge(self) -> None:
        """Remove the lab's data."""
