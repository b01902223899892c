"""Envoy's resources of the four kinds, and their JSON form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from labstack.istio import envoy_api
from labstack.istio.envoy_api import cluster_v3, endpoint_v3, listener_v3, route_v3


@dataclass
class Resources:
    """The resources that a control plane sends to the gateway.

    Attributes
    ----------
    clusters, endpoints, listeners, routes : list
        Typed messages, each list sorted by name.
    """

    clusters: list[cluster_v3.Cluster] = field(default_factory=list)
    endpoints: list[endpoint_v3.ClusterLoadAssignment] = field(default_factory=list)
    listeners: list[listener_v3.Listener] = field(default_factory=list)
    routes: list[route_v3.RouteConfiguration] = field(default_factory=list)

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """Return the four lists in protobuf's JSON, with the field names of the proto files."""
        return {
            kind: [envoy_api.to_dict(message) for message in getattr(self, kind)]
            for kind in ("clusters", "endpoints", "listeners", "routes")
        }
