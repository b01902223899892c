"""The action of a route: forward a request, redirect it, or respond directly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labstack.istio.envoy_api import core_v3, protobuf, route_v3
from labstack.istio.translate.faults import exact_percent, whole_percent
from labstack.istio.translate.headers import operations
from labstack.istio.translate.retries import retry_policy
from labstack.istio.translate.upstream.destinations import Destinations

Route = route_v3.Route
Redirect = route_v3.RedirectAction
Spec = Mapping[str, Any]

REDIRECT_CODES = {
    0: Redirect.MOVED_PERMANENTLY,
    301: Redirect.MOVED_PERMANENTLY,
    302: Redirect.FOUND,
    303: Redirect.SEE_OTHER,
    307: Redirect.TEMPORARY_REDIRECT,
    308: Redirect.PERMANENT_REDIRECT,
}


def redirect(target: route_v3.Route, spec: Spec, port: int) -> None:
    """Set the redirect of a route. With a code that Envoy doesn't support, the route gets no action."""
    code = REDIRECT_CODES.get(spec.get("redirectCode", 0))
    if code is None:
        return
    action = target.redirect
    action.host_redirect = spec.get("authority", "")
    action.path_redirect = spec.get("uri", "")
    action.response_code = code
    if spec.get("scheme"):
        action.scheme_redirect = spec["scheme"]
    new_port = port if spec.get("derivePort") == "FROM_REQUEST_PORT" else spec.get("port", 0)
    # Omit the default port of the scheme.
    if new_port != {"http": 80, "https": 443}.get(spec.get("scheme") or "http"):
        action.port_redirect = new_port


def direct_response(target: route_v3.Route, spec: Spec) -> None:
    """Set the direct response of a route."""
    target.direct_response.status = spec.get("status", 0)
    body = spec.get("body", {})
    if "string" in body:
        target.direct_response.body.inline_string = body["string"]
    elif "bytes" in body:
        target.direct_response.body.inline_bytes = body["bytes"]


def forward(target: route_v3.Route, spec: Spec, destinations: Destinations, authority: str) -> None:
    """Let a route forward requests.

    Parameters
    ----------
    target : Route
        The route to modify.
    spec : mapping
        The HTTPRoute.
    destinations : Destinations
        The lookup of clusters for its destinations.
    authority : str
        The host that its header operations set; empty for none.
    """
    action = target.route
    # Istio sets no timeout by default, even where Envoy has one.
    timeout = spec.get("timeout", protobuf.Duration())
    action.timeout.CopyFrom(timeout)
    action.max_grpc_timeout.CopyFrom(timeout)
    if "rewrite" in spec:
        _rewrite(action, spec["rewrite"])
        authority = spec["rewrite"].get("authority") or authority
    if authority:
        action.host_rewrite_literal = authority
    _mirror(action, spec, destinations)
    routes = spec.get("route", [])
    if len(routes) == 1:
        _single(target, routes[0], destinations)
    else:
        _weighted(action, routes, destinations)
    hashed = len(routes) == 1 and destinations.hash(routes[0].get("destination", {})) is not None
    policy = retry_policy(spec.get("retries"), hashed=hashed)
    if policy is not None:
        action.retry_policy.CopyFrom(policy)


def _rewrite(action: route_v3.RouteAction, rewrite: Spec) -> None:
    if "uriRegexRewrite" in rewrite:
        regex = rewrite["uriRegexRewrite"]
        action.regex_rewrite.pattern.regex = regex.get("match", "")
        action.regex_rewrite.substitution = regex.get("rewrite", "")
    elif rewrite.get("uri"):
        action.prefix_rewrite = rewrite["uri"]


def _mirror(action: route_v3.RouteAction, spec: Spec, destinations: Destinations) -> None:
    """Add the mirrors. Without a percentage all requests are mirrored; with a percentage of 0, none."""
    mirrors: list[tuple[Spec | None, core_v3.RuntimeFractionalPercent | None]] = []
    if "mirror" in spec:
        mirrors.append((spec["mirror"], _mirror_fraction(spec)))
    for each in spec.get("mirrors", []):
        mirrors.append((each.get("destination"), _fraction(each.get("percentage"))))
    for destination, fraction in mirrors:
        if destination is not None and fraction is not None:
            action.request_mirror_policies.add(
                cluster=destinations.cluster(destination),
                runtime_fraction=fraction,
                trace_sampled={"value": False},
                disable_shadow_host_suffix_append=True,
            )


def _mirror_fraction(spec: Spec) -> core_v3.RuntimeFractionalPercent | None:
    old = spec.get("mirrorPercent", spec.get("mirror_percent"))
    if "mirrorPercentage" in spec or old is None:
        return _fraction(spec.get("mirrorPercentage"))
    return core_v3.RuntimeFractionalPercent(default_value=whole_percent(old)) if old > 0 else None


def _fraction(percentage: Spec | None) -> core_v3.RuntimeFractionalPercent | None:
    if percentage is None:
        return core_v3.RuntimeFractionalPercent(default_value=whole_percent(100))
    value = percentage.get("value", 0)
    return core_v3.RuntimeFractionalPercent(default_value=exact_percent(value)) if value > 0 else None


def _single(target: route_v3.Route, each: Spec, destinations: Destinations) -> None:
    """Forward to the only destination. Its weight has no effect."""
    action, destination = target.route, each.get("destination", {})
    action.cluster = destinations.cluster(destination)
    if "headers" in each:
        own = operations(each["headers"])
        own.apply(target)
        # The route's own host rewrite takes precedence over its destination's.
        if own.authority and not action.host_rewrite_literal:
            action.host_rewrite_literal = own.authority
    _add_hash(action, destinations.hash(destination))


def _weighted(action: route_v3.RouteAction, routes: list[Spec], destinations: Destinations) -> None:
    """Distribute requests over several destinations. Destinations with weight 0 are omitted."""
    action.weighted_clusters.SetInParent()
    for each in routes:
        if not each.get("weight", 0):
            continue
        destination = each.get("destination", {})
        cluster = action.weighted_clusters.clusters.add(
            name=destinations.cluster(destination), weight={"value": each["weight"] % 2**32}
        )
        if "headers" in each:
            own = operations(each["headers"])
            own.apply(cluster)
            if own.authority:
                cluster.host_rewrite_literal = own.authority
        _add_hash(action, destinations.hash(destination))


def _add_hash(action: route_v3.RouteAction, settings: Spec | None) -> None:
    """Add the hash policy: the property of a request that selects its endpoint."""
    settings = settings or {}
    if "httpHeaderName" in settings:
        action.hash_policy.add(header={"header_name": settings["httpHeaderName"]})
    elif "httpCookie" in settings:
        cookie = settings["httpCookie"]
        policy = action.hash_policy.add(cookie={"name": cookie.get("name", ""), "path": cookie.get("path", "")})
        if "ttl" in cookie:
            policy.cookie.ttl.CopyFrom(cookie["ttl"])
        for attribute in cookie.get("attributes", []):
            policy.cookie.attributes.add(name=attribute.get("name", ""), value=attribute.get("value", ""))
    elif "useSourceIp" in settings:
        action.hash_policy.add(connection_properties={"source_ip": settings["useSourceIp"]})
    elif "httpQueryParameterName" in settings:
        action.hash_policy.add(query_parameter={"name": settings["httpQueryParameterName"]})
