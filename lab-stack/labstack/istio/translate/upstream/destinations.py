"""Destinations of routes: the cluster of each, and the consistent hash that selects an endpoint in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labstack.istio.model.hosts import full_name
from labstack.istio.model.resolution import Model
from labstack.istio.model.services import ServiceHost
from labstack.istio.translate.upstream.clusters import cluster_name
from labstack.istio.translate.upstream.policies import hash_for


@dataclass(frozen=True)
class Destinations:
    """The lookup of services and clusters for the destinations of one VirtualService.

    Attributes
    ----------
    model : Model
        The configuration.
    namespace : str
        The VirtualService's namespace, to which its short host names refer.
    port : int
        The gateway's port, used if neither the destination nor its service determines one.
    """

    model: Model
    namespace: str
    port: int

    def host(self, destination: Mapping[str, Any]) -> str:
        """Return the full name of a destination's host."""
        return full_name(destination.get("host", ""), self.namespace)

    def service(self, destination: Mapping[str, Any]) -> ServiceHost | None:
        """Return the service of a destination, or None if it does not exist."""
        return self.model.services.found_from(self.host(destination), self.namespace)

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
        service = self.model.services.seen.get(self.host(destination))
        rule = self.model.rules.rule_for(service) if service is not None else None
        return hash_for(rule, destination)
