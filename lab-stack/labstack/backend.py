"""What the lab asks of whatever runs its components: local processes now, containers beside them.

The notebooks, the verbs and the tests see only this, so they can't tell which one is under them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from labstack import roles
from labstack.mesh.addresses import Addresses
from labstack.progress import Progress
from labstack.services import ServiceEntry

ComponentState = Literal["running", "paused", "stopped", "failed"]


@dataclass(frozen=True)
class ComponentStatus:
    """How one component is.

    Attributes
    ----------
    state : str
        ``running``, ``paused`` (SIGSTOP), ``stopped`` (on purpose, or never started) or ``failed`` (it should run,
        and doesn't).
    pid : int, optional
        Process, in local mode.
    container : str, optional
        Container, in container mode.
    rss_bytes : int, optional
        Memory of its process tree (PSS where the system tells it).
    log : str
        Where its output goes.
    """

    state: ComponentState
    pid: int | None = None
    container: str | None = None
    rss_bytes: int | None = None
    log: str = ""


@dataclass(frozen=True)
class Endpoints:
    """Where the parts of a lab listen."""

    services: dict[str, str] = field(default_factory=dict)
    databases: dict[str, str] = field(default_factory=dict)
    kafka: str = ""
    connect: str = ""
    watcher: str = ""
    gateway: str = ""
    envoy_admin: str = ""
    istiod: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    """Further versions of services, by the component's name, those that somebody has started."""
    observers: dict[str, str] = field(default_factory=dict)
    """Those of Prometheus, Jaeger and Grafana that this lab has."""

    @property
    def prometheus(self) -> str:
        """Where Prometheus listens; empty where the lab has none."""
        return self.observers.get("prometheus", "")

    @property
    def jaeger(self) -> str:
        """Where Jaeger answers questions; empty where the lab has none."""
        return self.observers.get("jaeger", "")

    @property
    def grafana(self) -> str:
        """Where Grafana listens; empty where the lab has none."""
        return self.observers.get("grafana", "")

    def client(self, service: str) -> str:
        """Return where a client sends its requests for a service: the gateway's origin."""
        return self.gateway or self.services[service]

    def to_json(self) -> dict[str, object]:
        """Return the names of ``lab status --json``."""
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
    """Starts, shows, breaks and stops components. Every verb returns when it is done."""

    mode: str
    services: tuple[ServiceEntry, ...]

    def prepare(self, progress: Progress) -> None:
        """Fetch and check the programs that components need."""

    def components(self) -> list[str]:
        """Return the names of all components, in the order of a start."""

    def required(self) -> list[str]:
        """Return the names of those without which the lab is not whole."""

    def observers(self) -> list[str]:
        """Return the names of those that only watch; the lab is whole without them."""

    def spans(self, service: str) -> str:
        """Return the spans that a service has written to its file, where there is no Jaeger.

        A line for each export: OTLP's ``ExportTraceServiceRequest`` in JSON. Empty where it has written none.
        """

    def component(self, name: str) -> roles.Component:
        """Return a component by name."""

    def addresses(self) -> Addresses:
        """Return where the services and the gateway are, as the mesh has to know it."""

    def launch(self, name: str) -> None:
        """Start a component if it isn't running; don't wait for it."""

    def await_ready(self, name: str, meanwhile: Callable[[], None] = ...) -> None:
        """Wait until a component serves; raise ComponentFailed when it dies or takes too long.

        `meanwhile` is called again and again, and raises to give up.
        """

    def introduce(self, observer: str) -> None:
        """Prepare the running components for an observer that joins them."""

    def stop(self, name: str) -> None:
        """End a component in good order."""

    def kill(self, name: str) -> None:
        """End a component at once (SIGKILL)."""

    def pause(self, name: str) -> None:
        """Freeze a component (SIGSTOP)."""

    def resume(self, name: str) -> None:
        """Let a frozen component go on."""

    def inspect(self, name: str, *, memory: bool = False) -> ComponentStatus:
        """Return how a component is now."""

    def endpoints(self) -> Endpoints:
        """Return where the components listen."""

    def database_for_connect(self, service: str) -> str:
        """Return the libpq URL of a service's database, as Connect reaches it."""

    def log(self, name: str, lines: int) -> str:
        """Return the end of a component's log."""

    def follow(self, name: str) -> Iterator[str]:
        """Give each line that a component writes to its log from now on, without end."""

    def down(self) -> None:
        """End everything that belongs to this lab, whoever started it."""

    def purge(self) -> None:
        """Remove the lab's data."""
