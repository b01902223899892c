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


def _base(admin_host: str, admin_port: int) -> dict[str, Any]:
    text = fill(CONFIG / "envoy" / "bootstrap.yaml", {"ADMIN_HOST": admin_host, "ADMIN_PORT": admin_port})
    base: dict[str, Any] = yaml.safe_load(text)
    return base


def by_istiod(admin_host: str, admin_port: int, istiod_address: str, istiod_port: int) -> str:
    """Return the bootstrap of an Envoy that istiod configures, over one stream (ADS).

    Parameters
    ----------
    admin_host, admin_port
        Where Envoy's administration listens.
    istiod_address, istiod_port
        IP address and port of istiod's discovery service.
    """
    bootstrap = _base(admin_host, admin_port)
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
    socket = {"address": istiod_address, "port_value": istiod_port}
    endpoint = {"endpoint": {"address": {"socket_address": socket}}}
    bootstrap["static_resources"] = {
        "clusters": [
            {
                "name": "istiod",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": HTTP2,
                "load_assignment": {"cluster_name": "istiod", "endpoints": [{"lb_endpoints": [endpoint]}]},
            }
        ]
    }
    return yaml.safe_dump(bootstrap, sort_keys=False)


def by_files(admin_host: str, admin_port: int, folder: XdsFolder) -> str:
    """Return the bootstrap of an Envoy that reads the translator's files in `folder`."""
    bootstrap = _base(admin_host, admin_port)
    bootstrap["dynamic_resources"] = {
        name: {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}
        for name, path in (("cds_config", folder.clusters), ("lds_config", folder.listeners))
    }
    return yaml.safe_dump(bootstrap, sort_keys=False)
