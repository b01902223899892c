"""What each component is for the others, in whichever mode it runs: its name, its address, and when it serves."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol

import httpx

from labstack import broker, connect_watcher, http
from labstack.errors import ComponentFailed
from labstack.mesh.envoy_admin import EnvoyAdmin
from labstack.mesh.istiod import RESOURCES, SERVICES
from labstack.services import FIRST_VERSION, ServiceEntry
from labstack.waiting import wait_until
from labstack.web_prefix import base_path

if TYPE_CHECKING:
    from labstack.mesh.envoy_files import EnvoyFiles

ENVOY_ADMIN = "envoy-admin"
"""The name of the port of Envoy's administration."""
JAEGER_OTLP = "jaeger-otlp"
JAEGER_OTLP_GRPC = "jaeger-otlp-grpc"
"""The names of the ports where Jaeger takes spans, as OTLP over HTTP and over gRPC."""

Kind = Literal["database", "broker", "relay", "watcher", "service", "gateway", "control plane", "observer"]
ENDING: tuple[tuple[Kind, ...], ...] = (
    ("gateway", "service", "watcher", "observer"),
    ("relay", "control plane"),
    ("broker",),
    ("database",),
)
"""The order of an end: what writes goes before what it writes to."""


ENVOY_OPTIONS = (
    # One worker: what a circuit breaker or a load balancer does is then the same for every request.
    *("--concurrency", "1"),
    # The access log is there when a notebook looks for it.
    *("--file-flush-interval-msec", "50"),
    *("--log-level", "warning"),
    *("--drain-time-s", "1", "--parent-shutdown-time-s", "2"),
)


class HasPorts(Protocol):
    """Where components run: all that both modes' sites have in common."""

    @property
    def ports(self) -> Mapping[str, int]:
        """Port by name; filled before anything starts."""


class Component(ABC):
    """One program of the stack.

    Attributes
    ----------
    name : str
        As in ``lab status``.
    kind : str
        What it does for the others.
    timeout : float
        Seconds after which a start has failed.
    grace : float
        Seconds between asking it to end and making it.
    optional : bool
        Whether it runs only where somebody has started it by its name.
    remark : str
        What a start that went well has to tell all the same; mostly nothing.
    """

    name: str
    kind: Kind
    timeout: float = 60
    grace: float = 5
    optional: bool = False
    remark: str = ""

    def __init__(self, site: HasPorts) -> None:
        self._ports = site.ports

    @property
    def port(self) -> int:
        """The port on 127.0.0.1 that clients connect to."""
        return self._ports[self.name]

    @abstractmethod
    def is_ready(self) -> bool:
        """Ask it whether it serves; no exception, no long wait."""

    def settle(self) -> None:  # noqa: B027 - most have nothing to do here
        """Give it what it can only take once it serves."""


class Database(Component):
    """The PostgreSQL server of one service."""

    kind = "database"
    service: ServiceEntry

    @property
    @abstractmethod
    def url(self) -> str:
        """The service's database as a libpq URL, for clients on this machine."""


class Broker(Component):
    """The Kafka broker."""

    name = "kafka"
    kind = "broker"
    grace = 8

    @property
    def address(self) -> str:
        """Bootstrap server, for clients on this machine."""
        return f"127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        """Whether it answers a metadata request."""
        return broker.answers(self.address)


class HttpComponent(Component):
    """Something that listens for HTTP."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class ConnectWorker(HttpComponent):
    """The Kafka Connect worker that runs Debezium."""

    name = "connect"
    kind = "relay"

    def is_ready(self) -> bool:
        """Whether its REST interface answers from the worker's own group, not only from the socket."""
        return http.answers(f"{self.url}/connectors")


class Watcher(HttpComponent):
    """What restarts a connector whose task has failed."""

    name = connect_watcher.NAME
    kind = "watcher"

    def is_ready(self) -> bool:
        """Whether it shows its metrics."""
        return http.answers(f"{self.url}/metrics")


class Gateway(HttpComponent):
    """Envoy: where clients come in."""

    name = "envoy"
    kind = "gateway"
    timeout = 60
    grace = 3

    @property
    def admin_url(self) -> str:
        """Envoy's own administration, for programs on this machine."""
        return f"http://127.0.0.1:{self._ports[ENVOY_ADMIN]}"

    @property
    @abstractmethod
    def listens(self) -> tuple[str, int]:
        """The address that the gateway binds to, empty for every one, and its port there."""

    @property
    @abstractmethod
    def files(self) -> EnvoyFiles:
        """The files that it reads when the translator steers it."""

    @abstractmethod
    def access_log(self, lines: int) -> str:
        """Return the last lines of its access log."""

    def is_ready(self) -> bool:
        """Whether it has its configuration, and listens."""
        return EnvoyAdmin(self.admin_url).listens()


class ControlPlane(HttpComponent):
    """istiod: makes Envoy's configuration out of Istio's.

    It starts with an empty folder: what lay there before it listened, it misses at times.
    """

    name = "istiod"
    kind = "control plane"
    timeout = 60
    grace = 3

    def is_ready(self) -> bool:
        """Whether it answers at all: its own readiness is 503 for ever where there is no Kubernetes."""
        try:
            http.get(f"{self.url}/ready", timeout=2)
        except httpx.HTTPError:
            return False
        return True

    @abstractmethod
    def place(self, configuration: str) -> None:
        """Put a configuration, as one YAML text, into the folder that it reads."""

    @abstractmethod
    def configuration(self) -> str:
        """Return what it has to have now."""

    def settle(self) -> None:
        """Give it its configuration, and see that it has read it, and made services of its service entries."""
        wanted = self.configuration().count("\nkind: ")
        entries = self.configuration().count("\nkind: ServiceEntry")

        def has_it() -> bool:
            self.place(self.configuration())
            if wait_until(lambda: self.resources() >= wanted and self.services() >= entries, 1, interval=0.01):
                return True
            self.place("")  # what it has read, it does not take for new; so it forgets it first
            return False

        if not wait_until(has_it, 10):
            raise ComponentFailed(
                f"istiod runs, but has read {self.resources()} of {wanted} resources, "
                f"and knows {self.services()} of {entries} services.",
                next_step="`lab logs istiod` tells why; `lab mesh reset` goes back to the lab's own configuration",
            )

    @abstractmethod
    def listing(self, path: str) -> str:
        """Return one of its own lists (``RESOURCES`` or ``SERVICES``), as JSON; empty where it gives none."""

    def resources(self) -> int:
        """Return how many resources it has read."""
        return self._count(RESOURCES)

    def services(self) -> int:
        """Return how many services it knows of them, and so gives to Envoy as clusters."""
        return self._count(SERVICES)

    def _count(self, path: str) -> int:
        try:
            return len(json.loads(self.listing(path)) or ())
        except ValueError:
            return 0


class Observer(HttpComponent):
    """What watches the lab. Nothing of the lab waits for it, or is worse for its absence.

    Attributes
    ----------
    ready_path : str
        What it answers with 200 once it serves.
    """

    kind = "observer"
    timeout = 30
    grace = 3
    ready_path: str

    def is_ready(self) -> bool:
        """Whether it says so."""
        return http.answers(f"{self.url}{self.ready_path}")


class Prometheus(Observer):
    """Collects the metrics of everything else, once a second."""

    name = "prometheus"
    ready_path = "/-/ready"

    @abstractmethod
    def settle(self) -> None:
        """Tell it which instances of the services there are now; it takes note within a second."""


class SeenBelowPath(Observer):
    """An observer whose pages must know below which path a hub shows them."""

    @property
    def url(self) -> str:
        """Where its pages and its API are."""
        return f"{super().url}{base_path(self.port)}"


class Jaeger(SeenBelowPath):
    """Keeps the traces."""

    name = "jaeger"
    ready_path = "/api/services"

    @property
    def otlp_url(self) -> str:
        """Where programs on this machine send their spans."""
        return f"http://127.0.0.1:{self._ports[JAEGER_OTLP]}"


class Grafana(SeenBelowPath):
    """Draws what Prometheus has."""

    name = "grafana"
    ready_path = "/api/health"


class ShopService(HttpComponent):
    """One of the four services; some of them can run in a second version, too."""

    kind = "service"
    grace = 4
    service: ServiceEntry
    version: str = FIRST_VERSION

    @property
    @abstractmethod
    def place(self) -> tuple[str, int]:
        """IP address and port, as the gateway reaches it."""

    def is_ready(self) -> bool:
        """Whether it serves, with its database and the broker in reach."""
        try:
            answer = http.get(f"{self.url}/healthz/ready", timeout=2)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and answer.json().get("status") == "ready"
