"""Listeners: one for each port and bind address, each with an HTTP connection manager that fetches its routes."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from labstack.istio.envoy_api import (
    core_v3,
    cors_v3,
    fault_v3,
    grpc_stats_v3,
    grpc_web_v3,
    hcm_v3,
    listener_v3,
    protobuf,
    router_v3,
    uuid_v3,
)
from labstack.istio.model.gateways import ListenerKey, Merged
from labstack.istio.translate.upstream.clusters import over_ads
from labstack.istio.translate.upstream.endpoints import address_of

Manager = hcm_v3.HttpConnectionManager

EVERY_ADDRESS = "0.0.0.0"
CONNECT_TIMEOUT = protobuf.Duration(seconds=15)


def listeners_of(merged: Merged) -> list[listener_v3.Listener]:
    """Return the listeners of all openings. Openings on one port and address are filter chains of one listener."""
    result: dict[str, listener_v3.Listener] = {}
    for opening in merged.openings:
        address = opening.bind or EVERY_ADDRESS
        name = f"{address}_{opening.port}"
        listener = result.setdefault(name, _listener(name, address, opening.port))
        listener.filter_chains.append(_chain(name, opening))
    return list(result.values())


def _listener(name: str, address: str, port: int) -> listener_v3.Listener:
    return listener_v3.Listener(
        name=name,
        address=address_of(address, port),
        traffic_direction=core_v3.TrafficDirection.OUTBOUND,
        max_connections_to_accept_per_socket_event={"value": 1},
    )


def _chain(name: str, opening: ListenerKey) -> listener_v3.FilterChain:
    chain = listener_v3.FilterChain(transport_socket_connect_timeout=CONNECT_TIMEOUT)
    entry = chain.filters.add(name="envoy.filters.network.http_connection_manager")
    entry.typed_config.Pack(_manager(name, opening))
    return chain


def _manager(name: str, opening: ListenerKey) -> hcm_v3.HttpConnectionManager:
    """Return the connection manager with Istio's edge settings: it trusts no client's claims about itself."""
    manager = Manager(
        stat_prefix=f"outbound_{name};",
        rds={"config_source": over_ads(), "route_config_name": opening.route_name},
        http_protocol_options={},
        server_name="istio-envoy",
        use_remote_address={"value": True},
        forward_client_cert_details=Manager.SANITIZE_SET,
        set_current_client_cert_details={"subject": {"value": True}, "cert": True, "dns": True, "uri": True},
        proxy_100_continue=True,
        stream_idle_timeout=protobuf.Duration(),
        normalize_path={"value": True},
        path_with_escaped_slashes_action=Manager.KEEP_UNCHANGED,
        upgrade_configs=[{"upgrade_type": "websocket"}],
    )
    for filter_name, config in _filters(opening.protocol):
        manager.http_filters.add(name=f"envoy.filters.http.{filter_name}").typed_config.Pack(config)
    request_id = uuid_v3.UuidRequestIdConfig(use_request_id_for_trace_sampling={"value": True})
    manager.request_id_extension.typed_config.Pack(request_id)
    return manager


def _filters(protocol: str) -> list[tuple[str, Message]]:
    stats: dict[str, Any] = {"emit_filter_state": True, "stats_for_all_methods": {"value": False}}
    web: list[tuple[str, Message]] = [("grpc_web", grpc_web_v3.GrpcWeb())] if protocol.lower() == "grpc-web" else []
    return [
        *web,
        ("grpc_stats", grpc_stats_v3.FilterConfig(**stats)),
        ("fault", fault_v3.HTTPFault()),
        ("cors", cors_v3.Cors()),
        ("router", router_v3.Router()),
    ]
