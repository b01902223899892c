"""Destinations of routes: the cluster of each, and the consistent hash that selects an endpoint in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labstack.istio.translate.model.destination_rules import DestinationRules
from labstack.istio.translate.model.gateways import NAMESPACE
from labstack.istio.translate.model.hosts import full_name
from labstack.istio.translate.model.policies import hash_for
from labstack.istio.translate.model.services import Service, Services
from labstack.istio.translate.upstream.clusters import cluster_name


@dataclass(frozen=True)
class Destinations:
    """The lookup of services and clusters for the destinations of one VirtualService.

    Attributes
    ----------
    services, rules
        The known services and DestinationRules.
    namespace : str
        The VirtualService's namespace, to which its short host names refer.
    port : int
        The gateway's port, used if neither the destination nor its service determines one.
    """

    services: Services
    rules: DestinationRules
    namespace: str
    port: int

    def host(self, destination: Mapping[str, Any]) -> str:
        """Return the full name of a destination's host."""
        return full_name(destination.get("host", ""), self.namespace)

    def service(self, destination: Mapping[str, Any]) -> Service | None:
        """Return the service of a destination, or None if there is none."""
        return self.services.found_from(self.host(destination), self.namespace, NAMESPACE)

    def cluster(self, destination: Mapping[str, Any]) -> str:
        """Return the name of a destination's cluster, whether or not the cluster exists."""
        host = self.host(destination)
        if not host:
            return "UnknownService"
        port, service = self.port, self.service(destination)
        if "port" in destination:
            port = destination["port"].get("number", 0)
        elif service is not None and len(service.ports) == 1:
            port = service.ports[0].number
        return cluster_name(host, port, destination.get("subset", ""))

    def hash(self, destination: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the consistent hash for a destination, or None."""
        service = self.services.seen.get(self.host(destination))
        rule = self.rules.rule_for(service, NAMESPACE) if service is not None else None
        return hash_for(rule, destination)
