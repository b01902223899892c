"""Istio's rules for an HTTP route: valid combinations of parts, and destinations."""

from __future__ import annotations

from typing import Any

from labstack.istio import durations
from labstack.istio.rules.destination_rule import whole_milliseconds
from labstack.istio.rules.findings import Findings, Path
from labstack.istio.rules.http_parts import cors, direct_response, fault, headers, percent, redirect, retries, rewrite
from labstack.istio.rules.names import is_address, is_host, is_label
from labstack.istio.words import short

ENDS = ("redirect", "directResponse", "route")


def http_route(route: dict[str, Any], path: Path, found: Findings) -> None:
    """Check one HTTP route."""
    _together(route, path, found)
    for name, check in (
        ("fault", fault),
        ("retries", retries),
        ("redirect", redirect),
        ("rewrite", rewrite),
        ("directResponse", direct_response),
        ("corsPolicy", cors),
        ("headers", headers),
    ):
        if name in route:
            check(route[name], (*path, name), found)
    _rewritten_prefixes(route, path, found)
    _mirrors(route, path, found)
    whole_milliseconds(route.get("timeout"), (*path, "timeout"), found)
    _times(route, path, found)
    _destinations(route.get("route", []), path, found)
    if "fault" in route and "retries" in route:
        message = "the route has a fault and retries, but Envoy never retries a request after an injected fault"
        found.add_warning((*path, "fault"), message)


def _together(route: dict[str, Any], path: Path, found: Findings) -> None:
    if "delegate" in route:
        for name in ("route", "redirect"):
            if name in route:
                found.add_problem((*path, name), f"both `delegate` and `{name}` are set; only one of them is allowed")
        return
    ends = [name for name in ENDS if route.get(name) is not None and (name != "route" or route["route"])]
    if not ends:
        found.add_problem((*path, "route"), "is missing; a route needs `route`, `redirect` or `directResponse`")
    elif len(ends) > 1:
        found.add_problem((*path, ends[-1]), f"both `{ends[0]}` and `{ends[1]}` are set; only one of them is allowed")
    if ends and ends[0] != "route":
        for name in ("fault", "rewrite"):
            if name in route:
                found.add_problem((*path, name), f"both `{ends[0]}` and `{name}` are set; only one of them is allowed")
    if "mirror" in route and route.get("mirrors"):
        found.add_problem((*path, "mirrors"), "both `mirror` and `mirrors` are set; only one of them is allowed")


def _rewritten_prefixes(route: dict[str, Any], path: Path, found: Findings) -> None:
    """Record a rewrite that joins the new prefix and the rest of the path with two slashes, or with none."""
    new = route.get("rewrite", {}).get("uri", "")
    for match in route.get("match", []) if new else []:
        old = match.get("uri", {}).get("prefix", "")
        if not old or old.endswith("/") == new.endswith("/"):
            continue
        example = f"{old.rstrip('/')}/orders"
        message = (
            f"replaces only the prefix `{short(old)}`, so `{short(example)}` becomes "
            f"`{short(new + example.removeprefix(old))}`; let both end with `/`, or neither"
        )
        found.add_warning((*path, "rewrite", "uri"), message)


def _mirrors(route: dict[str, Any], path: Path, found: Findings) -> None:
    if "mirror" in route:
        destination(route["mirror"], (*path, "mirror"), found)
    percent(route.get("mirrorPercentage"), (*path, "mirrorPercentage"), found)
    for name in ("mirrorPercent", "mirror_percent"):
        if route.get(name) is not None:
            if route[name] > 100:
                found.add_problem((*path, name), f"expected a percentage from 0 to 100, found the number {route[name]}")
            found.add_warning((*path, name), "is deprecated; use mirrorPercentage: {value: ...}")
    for index, mirror in enumerate(route.get("mirrors", [])):
        inner = (*path, "mirrors", index)
        destination(mirror["destination"], (*inner, "destination"), found)
        percent(mirror.get("percentage"), (*inner, "percentage"), found)
    if "mirrorPercentage" in route and "mirror" not in route:
        found.add_warning((*path, "mirrorPercentage"), "has no effect without `mirror`: no request is mirrored")


def _times(route: dict[str, Any], path: Path, found: Findings) -> None:
    whole = durations.nanoseconds(route.get("timeout", ""))
    each = durations.nanoseconds(route.get("retries", {}).get("perTryTimeout", ""))
    if whole and each and each >= whole and route["retries"].get("attempts", 0) > 0 and each > whole:
        message = (
            f"`{route['retries']['perTryTimeout']}` for one try is longer than the whole timeout `{route['timeout']}`, "
            "so Envoy never retries a slow try"
        )
        found.add_warning((*path, "retries", "perTryTimeout"), message)


def _destinations(routes: list[dict[str, Any]], path: Path, found: Findings) -> None:
    for index, part in enumerate(routes):
        inner = (*path, "route", index)
        destination(part["destination"], (*inner, "destination"), found)
        if part.get("weight", 0) < 0:
            found.add_problem((*inner, "weight"), f"expected a weight of at least 0, found {part['weight']}")
        if "headers" in part:
            headers(part["headers"], (*inner, "headers"), found)
    if len(routes) < 2:
        return
    weights = [part.get("weight", 0) for part in routes]
    if sum(weights) == 0:
        message = f"the weights of the {len(routes)} destinations add up to 0; set a weight for each, such as 80 and 20"
        found.add_problem((*path, "route"), message)
        return
    for index, part in enumerate(routes):
        if "weight" not in part:
            message = (
                "is missing, but another destination has one; it counts as 0, so this destination gets no requests"
            )
            found.add_warning((*path, "route", index, "weight"), message)


def destination(target: dict[str, Any], path: Path, found: Findings) -> None:
    """Check the format of a destination, but not whether it exists."""
    host = target["host"]
    if host == "*" or not (is_host(host, star=True) or is_address(host)):
        hint = "; the port belongs in `port: {number: ...}`" if ":" in host else ""
        found.add_problem((*path, "host"), f"expected a host such as order, found `{short(host)}`{hint}")
    subset = target.get("subset")
    if subset and not is_label(subset):
        found.add_problem((*path, "subset"), f"expected a subset name such as v1, found `{short(subset)}`")
    if "port" in target:
        number = target["port"].get("number", 0)
        if not 1 <= number <= 65535:
            message = f"expected a port from 1 to 65535, found the number {number}"
            found.add_problem((*path, "port", "number"), message)
