"""The HTTP routes of a VirtualService for one gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labstack.istio.envoy_api import protobuf, route_v3
from labstack.istio.model.configs import Config
from labstack.istio.model.hosts import gateway_name
from labstack.istio.translate import actions
from labstack.istio.translate.cors import cors_policy
from labstack.istio.translate.faults import http_fault
from labstack.istio.translate.headers import operations
from labstack.istio.translate.matches import is_catch_all, route_match
from labstack.istio.translate.upstream.destinations import Destinations

Route = route_v3.Route
Spec = Mapping[str, Any]

FAULT, CORS = "envoy.filters.http.fault", "envoy.filters.http.cors"


@dataclass(frozen=True)
class Caller:
    """The gateway for which routes are generated.

    Attributes
    ----------
    gateway : str
        The Gateway, as namespace/name.
    port : int
        The port of its server.
    labels : mapping
        The labels of its workload.
    """

    gateway: str
    port: int
    labels: Mapping[str, str]


def routes_of(config: Config, caller: Caller, destinations: Destinations) -> list[route_v3.Route]:
    """Return the routes of a VirtualService for a gateway, up to the first that matches every request."""
    result = []
    for spec in config.spec.get("http", []):
        for match in spec.get("match") or [None]:
            if match is not None and not _is_for(match, caller, config.namespace):
                continue
            route = _route(config, spec, match, caller, destinations)
            result.append(route)
            if is_catch_all(route):
                return result
    return result


def _is_for(match: Spec, caller: Caller, namespace: str) -> bool:
    """Report whether a match can apply at this port of this gateway."""
    if match.get("port", 0) not in (0, caller.port):
        return False
    if match.get("gateways"):
        return caller.gateway in (gateway_name(each, namespace) for each in match["gateways"])
    # The lab's gateway doesn't report its namespace to the control plane.
    return match.get("sourceLabels", {}).items() <= caller.labels.items() and not match.get("sourceNamespace")


def _route(
    config: Config, spec: Spec, match: Spec | None, caller: Caller, destinations: Destinations
) -> route_v3.Route:
    name = spec.get("name", "")
    if match is not None and match.get("name"):
        name += f".{match['name']}"
    route = Route(name=name, match=route_match(match), stat_prefix=(match or {}).get("statPrefix", ""))
    origin = protobuf.Struct()
    origin.update({"config": config.origin})
    route.metadata.filter_metadata["istio"].CopyFrom(origin)
    headers = operations(spec.get("headers", {}))
    headers.apply(route)
    if "redirect" in spec:
        actions.redirect(route, spec["redirect"], caller.port)
    elif "directResponse" in spec:
        actions.direct_response(route, spec["directResponse"])
    else:
        actions.forward(route, spec, destinations, headers.authority)
    if "fault" in spec:
        route.typed_per_filter_config[FAULT].Pack(http_fault(spec["fault"]))
    if "corsPolicy" in spec:
        route.typed_per_filter_config[CORS].Pack(cors_policy(spec["corsPolicy"]))
    route.decorator.operation = _operation(route, config.name, caller.port)
    return route


def _operation(route: route_v3.Route, name: str, port: int) -> str:
    """Return the span name of a route: its single destination or else the VirtualService, followed by the path."""
    match = route.match
    path = {
        "prefix": match.prefix + "*",
        "path": match.path,
        "safe_regex": match.safe_regex.regex,
    }[match.WhichOneof("path_specifier") or "prefix"]
    parts = route.route.cluster.split("|")
    where = f"{parts[3]}:{int(parts[1])}" if len(parts) == 4 else f"{name}:{port}"
    return where + path
