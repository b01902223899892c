"""Gateways: the servers that the lab's gateway opens, and the merging of several servers on one port."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labstack.istio.model.configs import Config
from labstack.istio.model.proxy import ADDRESS, LABELS
from labstack.istio.model.services import TOPOLOGY, Services

LocalityName = tuple[str, str, str]  # region, zone and subzone


@dataclass(frozen=True)
class Server:
    """One server of a Gateway. Its hosts are ``namespace/host``, or ``host`` for all namespaces."""

    gateway: str
    port: int
    protocol: str
    bind: str
    hosts: tuple[str, ...]

    def hosts_for(self, namespace: str) -> list[str]:
        """Return the hosts that VirtualServices of a namespace may serve."""
        split = [host.rpartition("/") for host in self.hosts]
        return [host for owner, _, host in split if owner in ("", "*", namespace)]


@dataclass(frozen=True)
class ListenerKey:
    """The key of a filter chain: port and bind address determine the listener, and the protocol the filters."""

    port: int
    protocol: str
    bind: str

    @property
    def route_name(self) -> str:
        """The name of this listener's route configuration."""
        return f"http.{self.port}.{self.bind}" if self.bind else f"http.{self.port}"


@dataclass
class Merged:
    """All servers that the gateway opens.

    Attributes
    ----------
    openings : list of ListenerKey
        One for each filter chain.
    servers : dict
        The servers, by the name of their route configuration.
    """

    openings: list[ListenerKey] = field(default_factory=list)
    servers: dict[str, list[Server]] = field(default_factory=dict)


def selected(config: Config, labels: Mapping[str, str]) -> bool:
    """Report whether a Gateway selects a workload with these labels. Without a selector, it selects all."""
    selector: Mapping[str, str] = config.spec.get("selector", {})
    return selector.items() <= labels.items()


def merge(configs: Iterable[Config], services: Services) -> Merged:
    """Merge the servers of all Gateways that select the lab's gateway, starting with the oldest Gateway.

    HTTP servers with the same port and bind address share a listener and its routes. A server with another bind address
    opens a separate listener. Further servers are compared with the one that was opened last.
    """
    result = Merged()
    current: dict[int, ListenerKey] = {}
    labels = labels_of_gateway(services)
    for config in configs:
        if not selected(config, labels):
            continue
        for server in servers_of(config):
            opening = ListenerKey(_listening_port(server.port, services), server.protocol, server.bind)
            before = current.get(opening.port)
            if before is not None and (before.bind == opening.bind or opening in result.openings):
                result.servers[opening.route_name].append(server)
                continue
            current[opening.port] = opening
            result.openings.append(opening)
            result.servers[opening.route_name] = [server]
    return result


def servers_of(config: Config) -> list[Server]:
    """Return the servers of a Gateway that have a port."""
    return [_server(config, raw) for raw in config.spec.get("servers", []) if "port" in raw]


def _server(config: Config, raw: Mapping[str, Any]) -> Server:
    port = raw["port"]
    return Server(
        config.full_name,
        port.get("number", 0),
        port.get("protocol", ""),
        raw.get("bind", ""),
        _hosts(raw.get("hosts", []), config.namespace),
    )


def _hosts(hosts: Iterable[str], namespace: str) -> tuple[str, ...]:
    """Return the hosts with the namespace only where it matters."""
    result = []
    for host in hosts:
        owner, slash, name = host.partition("/")
        if owner == "." and slash:
            result.append(f"{namespace}/{name}")
        elif owner == "*" and slash:
            if name == "*":
                return ("*",)
            result.append(name)
        else:
            result.append(host)
    return tuple(result)


def labels_of_gateway(services: Services) -> Mapping[str, str]:
    """Return the gateway's labels. A service with the gateway's address replaces them with its own labels."""
    own = [each for endpoints in services.endpoints.values() for each in endpoints if each.address == ADDRESS]
    return own[0].labels if own else LABELS


def locality_of_gateway(services: Services) -> LocalityName:
    """Return the gateway's region, zone and subzone. They are empty unless a service provides the gateway's labels."""
    labels = labels_of_gateway(services)
    region, zone, sub_zone = (labels.get(name, "") for name in TOPOLOGY)
    return region, zone, sub_zone


def _listening_port(port: int, services: Services) -> int:
    """Return the listening port for a Gateway's port. A service at the gateway's address may map it to another one."""
    for _, endpoints in sorted(services.endpoints.items()):
        for each in endpoints:
            if each.address == ADDRESS and each.service_port.number == port:
                return each.port
    return port
