"""Envoy's bootstrap: the file `lab-stack/envoy/bootstrap.yaml` plus the source of the dynamic configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import yaml

from labservices.origins import own_host_pattern
from labstack.config.paths import CONFIG
from labstack.config.templates import fill
from labstack.config.web_prefix import allowed_hosts
from labstack.gateway.xds_folder import XdsFolder

HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {
            "http2_protocol_options": {"connection_keepalive": {"interval": "5s", "timeout": "3s"}}
        },
    }
}


COLLECTOR = "trace-collector"
"""The name of the cluster that receives Envoy's spans."""

Address = tuple[str, int]
"""IP address and port."""


@dataclass(frozen=True)
class Administration:
    """Where Envoy's administration interface listens.

    Parameters
    ----------
    socket : str
        Path of the socket at which Envoy accepts every request. The path may be relative to Envoy's working directory,
        because the system limits a socket's path to about a hundred characters.
    host : str
        IP address at which it accepts requests that only read.
    port : int
        Port at that address.
    """

    socket: str
    host: str
    port: int


def _base(admin: Administration, collector: Address | None) -> dict[str, Any]:
    values = {
        "ADMIN_SOCKET": admin.socket,
        "ADMIN_HOST": admin.host,
        "ADMIN_PORT": admin.port,
        "HOSTS": json.dumps(own_host_pattern(allowed_hosts())),
    }
    base: dict[str, Any] = yaml.safe_load(fill(CONFIG / "envoy" / "bootstrap.yaml", values))
    if collector:
        base["static_resources"]["clusters"].append(_cluster(COLLECTOR, collector))
        base["tracing"] = {"http": _tracer(collector)}
        # By default Envoy exports spans in batches of five, or every five seconds.
        soon = {"tracing.opentelemetry.min_flush_spans": 1}
        base["layered_runtime"] = {"layers": [{"name": "lab", "static_layer": soon}]}
    return base


def _cluster(name: str, where: Address) -> dict[str, Any]:
    socket = {"address": where[0], "port_value": where[1]}
    endpoint = {"endpoint": {"address": {"socket_address": socket}}}
    return {
        "name": name,
        # Envoy requests its configuration only after it has resolved every host name in the bootstrap.
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _tracer(collector: Address) -> dict[str, Any]:
    """Return the tracer, which exports spans as OTLP over HTTP with the service name ``gateway``.

    A tracer in the bootstrap applies to every listener that traces without naming a tracer. The same setting therefore
    works with every control plane.
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


def by_istiod(admin: Administration, istiod: Address, collector: Address | None = None) -> str:
    """Return the bootstrap of an Envoy that istiod configures over one stream (ADS).

    Parameters
    ----------
    admin : Administration
        Where Envoy's administration interface listens.
    istiod : (str, int)
        IP address and port of istiod's discovery service.
    collector : (str, int), optional
        IP address and port of the receiver for spans (OTLP over HTTP). It does not need to run yet.
    """
    bootstrap = _base(admin, collector)
    ads = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    # Reconnect to a restarted istiod at once. By default gRPC's back-off grows to half a minute.
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


def by_files(admin: Administration, folder: XdsFolder, collector: Address | None = None) -> str:
    """Return the bootstrap of an Envoy that reads the translator's files in `folder`."""
    bootstrap = _base(admin, collector)
    bootstrap["dynamic_resources"] = {
        name: {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}
        for name, path in (("cds_config", folder.clusters), ("lds_config", folder.listeners))
    }
    return yaml.safe_dump(bootstrap, sort_keys=False)
