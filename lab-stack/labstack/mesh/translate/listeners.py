"""Listeners: one for each port and bind address, each with an HTTP connection manager that asks for its routes."""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.grpc_stats.v3 import config_pb2 as grpc_stats_pb2
from envoy.extensions.filters.http.grpc_web.v3 import grpc_web_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.request_id.uuid.v3 import uuid_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from labstack.mesh.translate.clusters import over_ads
from labstack.mesh.translate.endpoints import address_of
from labstack.mesh.translate.gateways import Merged, Opening

Manager = http_connection_manager_pb2.HttpConnectionManager

EVERY_ADDRESS = "0.0.0.0"
CONNECT_TIMEOUT = Duration(seconds=15)


def listeners_of(merged: Merged) -> list[listener_pb2.Listener]:
    """Return the listeners of all openings; those of one port and address have a filter chain each in one listener."""
    result: dict[str, listener_pb2.Listener] = {}
    for opening in merged.openings:
        address = opening.bind or EVERY_ADDRESS
        name = f"{address}_{opening.port}"
        listener = result.setdefault(name, _listener(name, address, opening.port))
        listener.filter_chains.append(_chain(name, opening))
    return list(result.values())


def _listener(name: str, address: str, port: int) -> listener_pb2.Listener:
    return listener_pb2.Listener(
        name=name,
        address=address_of(address, port),
        traffic_direction=base_pb2.OUTBOUND,
        max_connections_to_accept_per_socket_event={"value": 1},
    )


def _chain(name: str, opening: Opening) -> listener_components_pb2.FilterChain:
    chain = listener_components_pb2.FilterChain(transport_socket_connect_timeout=CONNECT_TIMEOUT)
    entry = chain.filters.add(name="envoy.filters.network.http_connection_manager")
    entry.typed_config.Pack(_manager(name, opening))
    return chain


def _manager(name: str, opening: Opening) -> http_connection_manager_pb2.HttpConnectionManager:
    """Return the connection manager as Istio has it at the edge: it trusts nothing that a client says of itself."""
    manager = Manager(
        stat_prefix=f"outbound_{name};",
        rds={"config_source": over_ads(), "route_config_name": opening.route_name},
        http_protocol_options={},
        server_name="istio-envoy",
        use_remote_address={"value": True},
        forward_client_cert_details=Manager.SANITIZE_SET,
        set_current_client_cert_details={"subject": {"value": True}, "cert": True, "dns": True, "uri": True},
        proxy_100_continue=True,
        stream_idle_timeout=Duration(),
        normalize_path={"value": True},
        path_with_escaped_slashes_action=Manager.KEEP_UNCHANGED,
        upgrade_configs=[{"upgrade_type": "websocket"}],
    )
    for filter_name, config in _filters(opening.protocol):
        manager.http_filters.add(name=f"envoy.filters.http.{filter_name}").typed_config.Pack(config)
    request_id = uuid_pb2.UuidRequestIdConfig(use_request_id_for_trace_sampling={"value": True})
    manager.request_id_extension.typed_config.Pack(request_id)
    return manager


def _filters(protocol: str) -> list[tuple[str, Message]]:
    stats: dict[str, Any] = {"emit_filter_state": True, "stats_for_all_methods": {"value": False}}
    web: list[tuple[str, Message]] = [("grpc_web", grpc_web_pb2.GrpcWeb())] if protocol.lower() == "grpc-web" else []
    return [
        *web,
        ("grpc_stats", grpc_stats_pb2.FilterConfig(**stats)),
        ("fault", fault_pb2.HTTPFault()),
        ("cors", cors_pb2.Cors()),
        ("router", router_pb2.Router()),
    ]
