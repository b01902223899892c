"""The components of the stack, independent of the backend: name, address, and readiness probe."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import httpx

from labstack.backends import connect_watcher
from labstack.backends.dependencies import Condition
from labstack.clients import broker, http
from labstack.clients.database_server import DatabaseServer
from labstack.clients.envoy_admin import EnvoyAdmin
from labstack.clients.replication import restore_publication
from labstack.config.services import FIRST_VERSION, ServiceEntry, load_topics
from labstack.config.web_prefix import base_path
from labstack.errors import ComponentFailed
from labstack.gateway.istiod import RESOURCES, SERVICES
from labstack.waiting import poll_until

if TYPE_CHECKING:
    from labstack.gateway.envoy_files import EnvoyFiles

ENVOY_ADMIN = "envoy-admin"
"""Name of the port of Envoy's admin interface."""
JAEGER_OTLP = "jaeger-otlp"
JAEGER_OTLP_GRPC = "jaeger-otlp-grpc"
"""Names of the ports where Jaeger accepts spans, as OTLP over HTTP and over gRPC."""

Kind = Literal["database", "broker", "relay", "watcher", "service", "gateway", "control plane", "observer"]

CONNECT_TIMER_SLACK = 2_000_000
"""Timer slack of Connect in nanoseconds (Linux). Debezium's queue waits in whole milliseconds, and in every task it
spins through the last millisecond of each interval. With this slack, its waits end slightly late and the spinning
disappears.
"""

ENVOY_OPTIONS = (
    # With one worker, circuit breakers and load balancers treat every request alike.
    *("--concurrency", "1"),
    # Notebooks read the access log right after a request.
    *("--file-flush-interval-msec", "50"),
    *("--log-level", "warning"),
    *("--drain-time-s", "1", "--parent-shutdown-time-s", "2"),
)


class HasPorts(Protocol):
    """The environment of components, as far as all backends share it."""

    @property
    def ports(self) -> Mapping[str, int]:
        """Port by name; filled before any component starts."""


class Component(ABC):
    """One program of the stack.

    Attributes
    ----------
    name : str
        Name in ``lab status``.
    kind : str
        Function of the component in the stack.
    depends_on : mapping of str to str
        The components that this one uses, each with the state that it waits for at its start: ``started`` or ``ready``.
    starts_late : bool
        Whether the component starts after the services are ready. No required component depends on it, so it does not
        delay the first probe events.
    timeout : float
        Seconds after which a start has failed.
    grace : float
        Seconds between the request to stop and the kill.
    optional : bool
        Whether the component runs only after a start by its name.
    remark : str
        Message to report after a successful start; usually empty.
    """

    name: str
    kind: Kind
    starts_late: bool = False
    timeout: float = 120
    grace: float = 5
    optional: bool = False
    remark: str = ""

    def __init__(self, context: HasPorts) -> None:
        self._ports = context.ports

    @property
    def depends_on(self) -> Mapping[str, Condition]:
        """The components that this one uses, each with the state that it waits for at its start."""
        return {}

    @property
    def port(self) -> int:
        """The port on 127.0.0.1 that clients connect to."""
        return self._ports[self.name]

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether the component serves. Raise no exception, and return quickly."""

    def settle(self) -> None:  # noqa: B027 - most have nothing to do here
        """Apply the configuration that the component accepts only once it serves."""

    def serve_dependents(self, services: tuple[ServiceEntry, ...], *, renew: bool) -> None:  # noqa: B027 - as above
        """Create resources for the components that depend on this one, such as topics; called when it is ready.

        Parameters
        ----------
        services : tuple of ServiceEntry
            The services of the lab.
        renew : bool
            Whether to restore the definitions that a user may have changed, too.
        """


class Database(Component):
    """The PostgreSQL server of one service."""

    kind = "database"
    service: ServiceEntry

    @property
    @abstractmethod
    def server(self) -> DatabaseServer:
        """The server's address for clients on this machine, and its passwords."""

    @property
    def url(self) -> str:
        """The operator's libpq URL of the service's database, for clients on this machine."""
        return self.server.url()

    def serve_dependents(self, services: tuple[ServiceEntry, ...], *, renew: bool) -> None:
        """Restore the publication of the outbox."""
        if renew:
            restore_publication(self.url)


class Broker(Component):
    """The Kafka broker."""

    kind = "broker"
    name = "kafka"
    grace = 8

    @property
    def address(self) -> str:
        """Bootstrap server, for clients on this machine."""
        return f"127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        """Return whether the broker answers a metadata request."""
        return broker.answers(self.address)

    def serve_dependents(self, services: tuple[ServiceEntry, ...], *, renew: bool) -> None:
        """Create the topics."""
        broker.create_topics(self.address, load_topics(services))


class HttpComponent(Component):
    """A component that serves HTTP."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class ConnectWorker(HttpComponent):
    """The Kafka Connect worker that runs Debezium.

    Attributes
    ----------
    databases : sequence of Database
        The databases that the connectors read.
    """

    kind = "relay"
    name = "connect"
    databases: Sequence[Database] = ()

    @property
    def depends_on(self) -> Mapping[str, Condition]:
        return {Broker.name: "started", **{database.name: "started" for database in self.databases}}

    def is_ready(self) -> bool:
        """Return whether the REST interface answers a request that needs the worker's group, not only the socket."""
        return http.answers(f"{self.url}/connectors")


class Watcher(HttpComponent):
    """The program that restarts a connector whose task has failed."""

    kind = "watcher"
    name = connect_watcher.NAME
    starts_late = True

    @property
    def depends_on(self) -> Mapping[str, Condition]:
        return {ConnectWorker.name: "started"}

    def is_ready(self) -> bool:
        """Return whether the watcher serves its metrics."""
        return http.answers(f"{self.url}/metrics")


class Gateway(HttpComponent):
    """Envoy, the entry point for clients."""

    kind = "gateway"
    name = "envoy"
    timeout = 120
    grace = 3

    @property
    def depends_on(self) -> Mapping[str, Condition]:
        return {ControlPlane.name: "started"}

    @property
    def admin_url(self) -> str:
        """URL of Envoy's admin interface, for programs on this machine."""
        return f"http://127.0.0.1:{self._ports[ENVOY_ADMIN]}"

    @property
    @abstractmethod
    def bind_address(self) -> tuple[str, int]:
        """Address (empty for all addresses) and port that the gateway binds to."""

    @property
    @abstractmethod
    def files(self) -> EnvoyFiles:
        """The files that Envoy reads if the translator is the control plane."""

    @abstractmethod
    def access_log(self, lines: int) -> str:
        """Return the last lines of the access log."""

    def is_ready(self) -> bool:
        """Return whether Envoy has its configuration and listens."""
        return EnvoyAdmin(self.admin_url).listens()


class ControlPlane(HttpComponent):
    """istiod, which translates Istio's configuration into Envoy's.

    istiod starts with an empty folder, because it sometimes misses files that exist before it listens.
    """

    kind = "control plane"
    name = "istiod"
    timeout = 120
    grace = 3

    def is_ready(self) -> bool:
        """Return whether istiod answers. Any status counts, because without Kubernetes ``/ready`` stays 503 forever."""
        try:
            http.get(f"{self.url}/ready", timeout=2)
        except httpx.HTTPError:
            return False
        return True

    @abstractmethod
    def write_configuration(self, configuration: str) -> None:
        """Write a configuration, as one YAML text, into the folder that istiod reads."""

    @abstractmethod
    def configuration(self) -> str:
        """Return the configuration that istiod must have now."""

    def settle(self) -> None:
        """Write the configuration, and wait until istiod has read it and created services from its service entries.

        Raises
        ------
        ComponentFailed
            istiod has not read every resource in time, or lacks a service.
        """
        wanted = self.configuration().count("\nkind: ")
        entries = self.configuration().count("\nkind: ServiceEntry")

        def is_complete() -> bool:
            self.write_configuration(self.configuration())
            if poll_until(lambda: self.resources() >= wanted and self.services() >= entries, 1, interval=0.01):
                return True
            self.write_configuration("")  # istiod ignores a file that it has read already, so remove the content first
            return False

        if not poll_until(is_complete, 10):
            raise ComponentFailed(
                f"istiod runs, but has read {self.resources()} of {wanted} resources, "
                f"and knows {self.services()} of {entries} services.",
                next_step="look at `lab logs istiod`; `lab mesh reset` restores the lab's own configuration",
            )

    @abstractmethod
    def listing(self, path: str) -> str:
        """Return one of istiod's debug lists (``RESOURCES`` or ``SERVICES``) as JSON; empty if it returns none."""

    def resources(self) -> int:
        """Return the number of resources that istiod has read."""
        return self._count(RESOURCES)

    def services(self) -> int:
        """Return the number of services that istiod derived from them, and so sends to Envoy as clusters."""
        return self._count(SERVICES)

    def _count(self, path: str) -> int:
        try:
            return len(json.loads(self.listing(path)) or ())
        except ValueError:
            return 0


class Observer(HttpComponent):
    """A component that observes the lab. No other component waits for it or needs it.

    Attributes
    ----------
    ready_path : str
        Path that the observer answers with status 200 once it serves.
    """

    kind = "observer"
    starts_late = True
    timeout = 60
    grace = 3
    ready_path: str

    def is_ready(self) -> bool:
        """Return whether `ready_path` answers."""
        return http.answers(f"{self.url}{self.ready_path}")


class Prometheus(Observer):
    """Prometheus, which scrapes the services, the gateway, the watcher, the broker and Connect once a second."""

    name = "prometheus"
    ready_path = "/-/ready"

    @abstractmethod
    def settle(self) -> None:
        """Update the lists of service instances and of Alertmanagers; Prometheus reads them within a second."""

    @abstractmethod
    def put_rules(self, text: str) -> None:
        """Replace the file of the learner's rules; Prometheus reads it at its next reload."""


class Alertmanager(Observer):
    """Alertmanager, which groups, mutes and routes the alerts that Prometheus raises."""

    name = "alertmanager"
    ready_path = "/-/ready"


class PrefixedObserver(Observer):
    """An observer whose pages must know the path below which a hub serves them."""

    @property
    def url(self) -> str:
        """URL of its pages and its API."""
        return f"{super().url}{base_path(self.port)}"


class Jaeger(PrefixedObserver):
    """Jaeger, which stores the traces."""

    name = "jaeger"
    ready_path = "/api/services"

    @property
    def otlp_url(self) -> str:
        """URL to which programs on this machine send their spans."""
        return f"http://127.0.0.1:{self._ports[JAEGER_OTLP]}"


class Grafana(PrefixedObserver):
    """Grafana, which draws the data of Prometheus."""

    name = "grafana"
    ready_path = "/api/health"

    @property
    def depends_on(self) -> Mapping[str, Condition]:
        return {Prometheus.name: "started"}


class ShopService(HttpComponent):
    """One of the four services; some can also run in a second version."""

    kind = "service"
    grace = 4
    service: ServiceEntry
    version: str = FIRST_VERSION

    @property
    def depends_on(self) -> Mapping[str, Condition]:
        return {self.service.database: "started", Broker.name: "ready"}  # the broker is ready when it has the topics

    @property
    @abstractmethod
    def upstream_address(self) -> tuple[str, int]:
        """IP address and port through which the gateway reaches the service."""

    def is_ready(self) -> bool:
        """Return whether the service serves and reaches its database and the broker."""
        try:
            answer = http.get(f"{self.url}/healthz/ready", timeout=2)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and answer.json().get("status") == "ready"
