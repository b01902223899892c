"""The components of an installation on a cluster: their workloads, the ports to forward, and their readiness."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from labstack.backends import components as interfaces
from labstack.backends import connect_watcher
from labstack.backends.kubernetes.attachment import Attachment, ClusterDatabase
from labstack.backends.kubernetes.forwarding import Target
from labstack.backends.kubernetes.workloads import Brokers, Hibernated, Scaled, Workload
from labstack.clients import broker, databases
from labstack.config.services import FIRST_VERSION, ServiceEntry, instance_name, load_topics
from labstack.errors import LabError
from labstack.gateway.access_log import parse_lines
from labstack.gateway.addresses import GATEWAY_PORT, SERVICE_PORT
from labstack.waiting import wait_until

if TYPE_CHECKING:
    from labstack.gateway.envoy_files import EnvoyFiles

NAME = "app.kubernetes.io/name"
"""Label of the chart's pods: the component."""

BROKER_PORT = 19094
"""Broker N advertises this port plus N on 127.0.0.1 to clients outside of the cluster."""
PLAIN_LISTENER, STRIMZI_LISTENER = 9092, 9094
"""Ports of a broker's pod for these clients, in both modes of Kafka."""

TOPICS_TIMEOUT = 120.0
"""Seconds until the chart's topics must exist."""


@dataclass(frozen=True)
class Context:
    """The settings that the components of a lab share.

    Parameters
    ----------
    ports : mapping
        Port on 127.0.0.1 by port name; filled before any component starts.
    attachment : Attachment
        The installation.
    log : callable
        Returns the last lines of a component's log.
    """

    ports: Mapping[str, int]
    attachment: Attachment
    log: Callable[[str, int], str]


class Component(interfaces.Component):
    """One program of the stack, in pods.

    Attributes
    ----------
    workload : Workload
        The object that runs the pods.
    forwarded : mapping
        For each port of this machine by name: the usual one, and the one in the pod.
    """

    timeout = 300  # a new installation creates its databases first
    grace = 60
    workload: Workload
    forwarded: Mapping[str, tuple[int, int]] = MappingProxyType({})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.context = context

    @property
    def targets(self) -> list[Target]:
        """The forwards to the component."""
        return [self._target(self.name, self.workload.labels)]

    def _target(self, name: str, labels: Mapping[str, str]) -> Target:
        return Target(name, labels, {self._ports[key]: there for key, (_, there) in self.forwarded.items()})


def deployment(name: str, container: str = "", process: str = "") -> Scaled:
    """Return a Deployment of the chart."""
    return Scaled("deployments.apps", "Deployment", name, {NAME: name}, container or name, process)


class Postgres(interfaces.Database, Component):
    """The database cluster of one service. The lab reaches its primary."""

    def __init__(self, context: Context, service: ServiceEntry) -> None:
        super().__init__(context)
        self.service = service
        self.name = service.database
        primary = {"cnpg.io/instanceRole": "primary"}
        labels = {"cnpg.io/cluster": self.name}
        self.workload = Hibernated(
            "clusters.postgresql.cnpg.io", "Cluster", self.name, labels, "postgres", "postgres", primary
        )
        self.forwarded = {self.name: (service.database_port, 5432)}

    @property
    def targets(self) -> list[Target]:
        return [self._target(self.name, {**self.workload.labels, **self.workload.victims})]

    @property
    def server(self) -> ClusterDatabase:
        return self._server("127.0.0.1", self.port)

    @property
    def inner_server(self) -> ClusterDatabase:
        """The server's address for pods."""
        return self._server(f"{self.name}-rw", 5432)

    def _server(self, host: str, port: int) -> ClusterDatabase:
        passwords = self.context.attachment.passwords.get(self.name, {})
        return ClusterDatabase(host, port, self.service.name, "", passwords)

    def is_ready(self) -> bool:
        return databases.answers(self.url)


class Kafka(interfaces.Broker, Component):
    """The brokers."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        brokers = context.attachment.brokers
        if not brokers:
            self.workload = Scaled("statefulsets.apps", "StatefulSet", "kafka", {NAME: "kafka"}, "kafka")
            self.forwarded = {self.name: (BROKER_PORT, PLAIN_LISTENER)}
            return
        labels = {"strimzi.io/cluster": "saga", "strimzi.io/kind": "Kafka", "strimzi.io/broker-role": "true"}
        self.workload = Brokers("kafkas.kafka.strimzi.io", "Kafka", "saga", labels, "kafka")
        names = [self.name, *(f"{self.name}-{node}" for node in brokers[1:])]
        self.forwarded = {
            name: (BROKER_PORT + node, STRIMZI_LISTENER) for name, node in zip(names, brokers, strict=True)
        }

    @property
    def targets(self) -> list[Target]:
        brokers = self.context.attachment.brokers
        if not brokers:
            return super().targets
        return [
            Target(key, {"statefulset.kubernetes.io/pod-name": f"saga-brokers-{node}"}, {self._ports[key]: there})
            for node, (key, (_, there)) in zip(brokers, self.forwarded.items(), strict=True)
        ]

    def is_ready(self) -> bool:
        """Return whether each broker answers: a client must reach all of them."""
        return all(broker.answers(f"127.0.0.1:{self._ports[key]}") for key in self.forwarded)

    def serve_dependents(self, services: tuple[ServiceEntry, ...], *, renew: bool) -> None:
        """Wait until the chart has created the topics."""
        wanted = load_topics(services).names
        wait_until(
            lambda: not set(wanted) - set(broker.topic_names(self.address)),
            TOPICS_TIMEOUT,
            interval=0.5,
            what="the topics of the chart",
            next_step="run `helm upgrade` again: it creates the topics that were deleted",
        )


class Connect(interfaces.ConnectWorker, Component):
    """The Connect worker."""

    forwarded = MappingProxyType({interfaces.ConnectWorker.name: (8083, 8083)})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.workload = deployment(self.name)
        if context.attachment.has_strimzi:
            labels = {"strimzi.io/cluster": "saga", "strimzi.io/kind": "KafkaConnect"}
            self.workload = Scaled("kafkaconnects.kafka.strimzi.io", "KafkaConnect", "saga", labels, "saga-connect")


class ConnectWatcher(interfaces.Watcher, Component):
    """The watcher of the connectors."""

    forwarded = MappingProxyType({connect_watcher.NAME: (connect_watcher.USUAL_PORT, SERVICE_PORT)})
    workload = deployment(connect_watcher.NAME)


class Service(interfaces.ShopService, Component):
    """One version of a service. The lab reaches one of its pods, and bypasses the sidecar.

    Parameters
    ----------
    context : Context
        Settings of the lab.
    service : ServiceEntry
        The service.
    version : str
        Its version.
    """

    grace = 60

    def __init__(self, context: Context, service: ServiceEntry, version: str = FIRST_VERSION) -> None:
        super().__init__(context)
        self.service = service
        self.version = version
        self.name = instance_name(service, version)
        self.optional = version != FIRST_VERSION
        self.workload = deployment(self.name, service.name)
        usual = service.port if version == FIRST_VERSION else service.versions[version]
        self.forwarded = {self.name: (usual, SERVICE_PORT)}

    @property
    def upstream_address(self) -> tuple[str, int]:
        return self.service.name, SERVICE_PORT


class Envoy(interfaces.Gateway, Component):
    """The gateway. The lab sends its requests to the pod whose administration interface it queries."""

    timeout = 300
    grace = 60
    forwarded = MappingProxyType({interfaces.Gateway.name: (8080, GATEWAY_PORT), interfaces.ENVOY_ADMIN: (9901, 15000)})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.workload = deployment("gateway", "istio-proxy", "envoy")

    @property
    def bind_address(self) -> tuple[str, int]:
        return "", GATEWAY_PORT

    @property
    def files(self) -> EnvoyFiles:
        raise LabError(
            "The cluster's istiod configures the gateway, so there are no files of the lab's translator.",
            next_step="use `lab mesh apply`, or kubectl",
        )

    def access_log(self, lines: int) -> str:
        """Return the last requests of all pods of the gateway."""
        text = self.context.log(self.name, 4 * lines)  # Istio may log the same requests in another format
        entries = sorted(parse_lines(text), key=lambda entry: str(entry["start_time"]))
        return "\n".join(json.dumps(entry) for entry in entries[-lines:]) if lines else ""


class Prometheus(interfaces.Prometheus, Component):
    """Prometheus, which its operator runs."""

    forwarded = MappingProxyType({interfaces.Prometheus.name: (9090, 9090)})
    workload = Scaled(
        "prometheuses.monitoring.coreos.com",
        "Prometheus",
        "saga-lab",
        {"operator.prometheus.io/name": "saga-lab"},
        "prometheus",
    )

    def settle(self) -> None:
        """Do nothing: Prometheus finds the pods itself."""

    def put_rules(self, text: str) -> None:
        raise LabError(
            "On a cluster, Prometheus reads its rules from PrometheusRule objects only.",
            next_step="create one with the label `app.kubernetes.io/part-of: saga-lab` (`kubectl apply`)",
        )


class Jaeger(interfaces.Jaeger, Component):
    """Jaeger."""

    forwarded = MappingProxyType({interfaces.Jaeger.name: (16686, 16686)})
    workload = deployment(interfaces.Jaeger.name)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"  # on the cluster, Jaeger does not know a hub's prefix


def every(context: Context, services: tuple[ServiceEntry, ...]) -> list[Component]:
    """Return the components of an installation, in the order of their start."""
    attachment = context.attachment
    databases = [Postgres(context, service) for service in services]
    connect = Connect(context)
    connect.databases = databases
    observers: list[Component] = [Prometheus(context), Jaeger(context)]
    return [
        *databases,
        Kafka(context),
        connect,
        ConnectWatcher(context),
        *(Service(context, service) for service in services),
        *([Envoy(context)] if attachment.gateway else []),
        *(
            second
            for service in services
            for version in service.versions
            if (second := Service(context, service, version)).name in attachment.versions
        ),
        *(observer for observer in observers if observer.name in attachment.observers),
    ]
