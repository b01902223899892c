"""Envoy's start: the file `lab-stack/envoy/bootstrap.yaml`, and where its configuration comes from."""

from __future__ import annotations

from typing import Any

import yaml

from labstack.mesh.xds_folder import XdsFolder
from labstack.paths import CONFIG
from labstack.templates import fill

HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {
            "http2_protocol_options": {"connection_keepalive": {"interval": "5s", "timeout": "3s"}}
        },
    }
}


COLLECTOR = "trace-collector"
"""The name of the cluster to which Envoy's spans go."""

Address = tuple[str, int]
"""IP address and port."""


def _base(admin: Address, collector: Address | None) -> dict[str, Any]:
    text = fill(CONFIG / "envoy" / "bootstrap.yaml", {"ADMIN_HOST": admin[0], "ADMIN_PORT": admin[1]})
    base: dict[str, Any] = yaml.safe_load(text)
    base["static_resources"] = {"clusters": []}
    if collector:
        base["static_resources"]["clusters"].append(_cluster(COLLECTOR, collector))
        base["tracing"] = {"http": _tracer(collector)}
        # By default spans wait for four others, or five seconds.
        soon = {"tracing.opentelemetry.min_flush_spans": 1}
        base["layered_runtime"] = {"layers": [{"name": "lab", "static_layer": soon}]}
    return base


def _cluster(name: str, where: Address) -> dict[str, Any]:
    socket = {"address": where[0], "port_value": where[1]}
    endpoint = {"endpoint": {"address": {"socket_address": socket}}}
    return {
        "name": name,
        # Before Envoy has resolved each name that stands here, it does not ask for its configuration.
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _tracer(collector: Address) -> dict[str, Any]:
    """Return how Envoy sends its spans: as OTLP over HTTP, in the name of the gateway.

    It stands in the bootstrap, and holds for every listener that traces and names no tracer of its own; so the same
    serves whoever steers Envoy.
    """
    uri = {"uri": f"http://{collector[0]}:{collector[1]}/v1/traces", "cluster": COLLECTOR, "timeout": "1s"}
    return {
        "name": "envoy.tracers.opentelemetry",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
            "service_name": "gateway",
            "http_service": {"http_uri": uri},
        },
    }


def by_istiod(admin: Address, istiod: Address, collector: Address | None = None) -> str:
    """Return the bootstrap of an Envoy that istiod configures, over one stream (ADS).

    Parameters
    ----------
    admin : (str, int)
        Where Envoy's administration listens.
    istiod : (str, int)
        IP address and port of istiod's discovery service.
    collector : (str, int), optional
        IP address and port where spans are taken as OTLP over HTTP; nobody needs to listen there yet.
    """
    bootstrap = _base(admin, collector)
    ads = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    # An istiod that comes back is found at once, not after the half minute that gRPC's back-off grows to.
    retry = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
    bootstrap["dynamic_resources"] = {
        "lds_config": ads,
        "cds_config": ads,
        "ads_config": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "istiod", "retry_policy": retry}}],
        },
    }
    bootstrap["static_resources"]["clusters"].append(
        {**_cluster("istiod", istiod), "typed_extension_protocol_options": HTTP2}
    )
    return yaml.safe_dump(bootstrap, sort_keys=False)


def by_files(admin: Address, folder: XdsFolder, collector: Address | None = None) -> str:
    """Return the bootstrap of an Envoy that reads the translator's files in `folder`."""
    bootstrap = _base(admin, collector)
    bootstrap["dynamic_resources"] = {
        name: {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}
        for name, path in (("cds_config", folder.clusters), ("lds_config", folder.listeners))
    }
    return yaml.safe_dump(bootstrap, sort_keys=False)
