"""Envoy's resources of the four kinds, and how they look as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# These are packed inside others; importing them is what lets protobuf print them.
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2 as _cors  # noqa: F401
from envoy.extensions.filters.http.fault.v3 import fault_pb2 as _fault  # noqa: F401
from envoy.extensions.filters.http.grpc_stats.v3 import config_pb2 as _grpc_stats  # noqa: F401
from envoy.extensions.filters.http.grpc_web.v3 import grpc_web_pb2 as _grpc_web  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2 as _router  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as _hcm  # noqa: F401
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2 as _cares  # noqa: F401
from envoy.extensions.request_id.uuid.v3 import uuid_pb2 as _uuid  # noqa: F401
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2 as _hosts  # noqa: F401
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2 as _prio  # noqa: F401
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as _http  # noqa: F401
from google.protobuf.json_format import MessageToDict


@dataclass
class Resources:
    """What a control plane gives to the gateway.

    Attributes
    ----------
    clusters, endpoints, listeners, routes : list
        Typed messages, each list in the order of names.
    """

    clusters: list[cluster_pb2.Cluster] = field(default_factory=list)
    endpoints: list[endpoint_pb2.ClusterLoadAssignment] = field(default_factory=list)
    listeners: list[listener_pb2.Listener] = field(default_factory=list)
    routes: list[route_pb2.RouteConfiguration] = field(default_factory=list)

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """Return the four lists in protobuf's JSON, with the field names of the proto files."""
        return {
            kind: [MessageToDict(message, preserving_proto_field_name=True) for message in getattr(self, kind)]
            for kind in ("clusters", "endpoints", "listeners", "routes")
        }
