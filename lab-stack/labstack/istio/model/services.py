"""The services and endpoints of ServiceEntries."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from labstack.istio.model.configs import Config
from labstack.istio.model.hosts import HostMap, is_address, is_wildcard, overlap
from labstack.istio.model.protocols import HTTP2, UNIX
from labstack.istio.model.proxy import CLUSTER_ID, NAMESPACE

DRAINING = "istio.io/draining"
TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


@dataclass(frozen=True)
class Port:
    """A port of a service, with its protocol in lower case.

    `target` is the port of endpoints that don't specify one; 0 if not given.
    """

    number: int
    name: str
    protocol: str
    target: int = field(default=0, compare=False)

    @property
    def speaks_http2(self) -> bool:
        """Whether clients call the service over HTTP/2."""
        return self.protocol in HTTP2


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of one port of a service.

    Attributes
    ----------
    address : str
        An IP address, a DNS name, or the path of a Unix socket.
    port : int
        Port number; 0 for a Unix socket.
    service_port : Port
        The port of the service.
    locality : str
        ``region/zone/subzone``, or its first parts.
    weight : int
        Weight in the distribution of requests.
    labels : dict
        The endpoint's own labels and those that istiod derives.
    """

    address: str
    port: int
    service_port: Port
    locality: str
    weight: int
    labels: Mapping[str, str]

    @property
    def resolved(self) -> bool:
        """Whether the address needs no DNS lookup."""
        return self.port == 0 or is_address(self.address)


@dataclass(frozen=True)
class ServiceHost:
    """One host of a ServiceEntry.

    Attributes
    ----------
    host, namespace : str
        The key of the service.
    ports : tuple of Port
        Ports in the order written.
    resolution : str
        ``NONE``, ``STATIC``, ``DNS`` or ``DNS_ROUND_ROBIN``.
    external : bool
        Whether the service is outside the mesh, which is the default without a location.
    config : Config
        The ServiceEntry.
    """

    host: str
    namespace: str
    ports: tuple[Port, ...]
    resolution: str
    external: bool
    config: Config

    def may_have(self, labels: Mapping[str, str]) -> bool:
        """Report whether an endpoint of the entry has these labels. Unlisted endpoints may have any."""
        endpoints = self.config.spec.get("endpoints", [])
        return not endpoints or any(labels.items() <= each.get("labels", {}).items() for each in endpoints)


class Services:
    """The services and endpoints of ServiceEntries.

    Parameters
    ----------
    entries : iterable of Config
        ServiceEntries in order of precedence.

    Attributes
    ----------
    by_host : HostMap
        The services of each host, also those that the gateway does not see, in the order of their entries.
    seen : dict
        The services that are visible to the gateway, one per host.
    """

    def __init__(self, entries: Iterable[Config]) -> None:
        self._entries = list(entries)
        self.by_host: HostMap[list[ServiceHost]] = HostMap()
        self.seen: dict[str, ServiceHost] = {}
        self._by_key: dict[tuple[str, str], ServiceHost] = {}
        every = [service for entry in self._entries for service in _services(entry)]
        for service in every:
            same_host = self.by_host.setdefault(service.host, [])
            if not same_host or same_host[-1].config is not service.config:
                same_host.append(service)
        every.sort(key=lambda service: (service.config.created, service.host, service.namespace))
        for service in every:
            self._by_key.setdefault((service.host, service.namespace), service)
        # Of several services for one host, those exported only to the gateway's namespace take precedence.
        visible = [service for service in every if service.config.visible_to(NAMESPACE)]
        for service in sorted(visible, key=lambda each: each.config.export_rank(NAMESPACE)):
            known = self.seen.get(service.host)
            self.seen[service.host] = service if known is None else _merged(known, service)

    @cached_property
    def endpoints(self) -> dict[tuple[str, str], list[Endpoint]]:
        """The endpoints of each service, by host and namespace."""
        result: dict[tuple[str, str], list[Endpoint]] = defaultdict(list)
        used_ports: set[tuple[str, str, int]] = set()
        for entry in self._entries:
            for service in _services(entry):
                for endpoint in _endpoints(entry.spec, service):
                    key = (service.host, service.namespace, endpoint.service_port.number)
                    # A logical DNS cluster has one endpoint: the first.
                    if service.resolution == "DNS_ROUND_ROBIN" and key in used_ports:
                        continue
                    used_ports.add(key)
                    result[service.host, service.namespace].append(endpoint)
        return result

    def found_from(self, host: str, namespace: str) -> ServiceHost | None:
        """Return the service to which a route in `namespace` forwards requests for a full host name, or None.

        The service of that namespace takes precedence if the gateway sees it.
        """
        own = self._by_key.get((host, namespace))
        return own if own is not None and own.config.visible_to(NAMESPACE) else self.seen.get(host)

    def matching(self, host: str) -> list[ServiceHost]:
        """Return all services to which a full host name refers, whether or not the gateway sees them.

        These are the services with exactly that host, otherwise those of the most specific wildcard for it. A wildcard,
        as in a DestinationRule, refers to all services that it overlaps with.
        """
        if is_wildcard(host) and host not in self.by_host:
            return [one for name, services in self.by_host.items() if overlap(name, host) for one in services]
        return self.by_host.most_specific(host) or []


def _services(entry: Config) -> list[ServiceHost]:
    spec = entry.spec
    ports = tuple(
        Port(port.get("number", 0), port.get("name", ""), port.get("protocol", "").lower(), port.get("targetPort", 0))
        for port in spec.get("ports", [])
    )
    # Each address of an entry creates a separate service, so its endpoints are repeated for each address.
    addresses = [each for each in spec.get("addresses", []) if _is_network(each)] if spec.get("addresses") else [""]
    return [
        ServiceHost(
            host,
            entry.namespace,
            ports,
            spec.get("resolution", "NONE"),
            spec.get("location", "MESH_EXTERNAL") == "MESH_EXTERNAL",
            entry,
        )
        for host in spec.get("hosts", [])
        for _ in addresses
    ]


def _is_network(address: str) -> bool:
    try:
        ipaddress.ip_network(address, strict=False)
    except ValueError:
        return False
    return True


def _merged(first: ServiceHost, second: ServiceHost) -> ServiceHost:
    """Return the older of two services of one host. If they are otherwise equal, it gets the ports of both."""
    is_mergeable = (
        first.namespace == second.namespace
        and first.resolution == second.resolution
        and first.config.labels == second.config.labels
        and first.config.export_to() == second.config.export_to()
    )
    if first.ports == second.ports or not is_mergeable:
        return first
    numbers = {port.number for port in first.ports}
    return replace(first, ports=first.ports + tuple(port for port in second.ports if port.number not in numbers))


def _endpoints(spec: Mapping[str, Any], service: ServiceHost) -> list[Endpoint]:
    written = spec.get("endpoints", [])
    if not written and service.resolution.startswith("DNS"):
        return [Endpoint(service.host, port.target or port.number, port, "", 1, {}) for port in service.ports]
    # Draining endpoints get no new requests.
    active = [each for each in written if not each.get("labels", {}).get(DRAINING)]
    return [_endpoint(each, port) for port in service.ports for each in active]


def _endpoint(written: Mapping[str, Any], port: Port) -> Endpoint:
    address = written.get("address", "")
    labels = written.get("labels", {})
    number = written.get("ports", {}).get(port.name) or port.target or port.number
    if address.startswith(UNIX):
        address, number = address.removeprefix(UNIX), 0
    locality = written.get("locality") or _locality_label(labels)
    return Endpoint(address, number, port, locality, written.get("weight") or 1, _augmented(labels, locality))


def _locality_label(labels: Mapping[str, str]) -> str:
    label = labels.get("topology.istio.io/locality", labels.get("istio-locality", ""))
    return label if "/" in label else label.replace(".", "/")


def _augmented(labels: Mapping[str, str], locality: str) -> dict[str, str]:
    topology = dict(zip(TOPOLOGY, locality.split("/"), strict=False))
    return {**labels, **{k: v for k, v in topology.items() if v}, "topology.istio.io/cluster": CLUSTER_ID}
