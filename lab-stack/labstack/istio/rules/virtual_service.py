"""Istio's rules for a VirtualService as a whole."""

from __future__ import annotations

from typing import Any

from labstack.istio.model.hosts import HostMap
from labstack.istio.rules.earlier_matches import EarlierMatches
from labstack.istio.rules.findings import Findings, Path
from labstack.istio.rules.http_match import http_match
from labstack.istio.rules.http_route import http_route
from labstack.istio.rules.names import is_address, is_host, is_label
from labstack.istio.words import short

MESH = "mesh"


def virtual_service(spec: dict[str, Any], found: Findings) -> None:
    """Check the spec of a VirtualService."""
    gateways = spec.get("gateways", [])
    bound = [name for name in gateways if name != MESH]
    delegate = not spec.get("hosts")
    if delegate:
        _delegate(spec, found)
    elif not bound:
        message = (
            "names no gateway, so it applies only to sidecars, not to the lab's gateway; add `gateways: [lab-gateway]`"
        )
        found.add_warning(("spec", "gateways"), message)
    _gateways(gateways, found)
    _hosts(spec.get("hosts", []), bool(bound), found)
    if not any(spec.get(name) for name in ("http", "tcp", "tls")):
        found.add_problem(("spec", "http"), "has no routes; a VirtualService needs http, tcp or tls")
    for index, route in enumerate(spec.get("http", [])):
        path = ("spec", "http", index)
        for number, match in enumerate(route.get("match", [])):
            http_match(match, (*path, "match", number), found)
        http_route(route, path, found)
    _unreachable(spec.get("http", []), found)


def _delegate(spec: dict[str, Any], found: Findings) -> None:
    if spec.get("gateways"):
        found.add_problem(("spec", "hosts"), 'is missing; a VirtualService with gateways needs hosts, such as ["*"]')
    else:
        message = "is missing, so this applies only where another VirtualService delegates to it"
        found.add_warning(("spec", "hosts"), message)
    for name in ("tcp", "tls"):
        if spec.get(name):
            found.add_problem(
                ("spec", name), f"{name} requires hosts; a VirtualService without hosts can have only http"
            )


def _gateways(gateways: list[str], found: Findings) -> None:
    for index, name in enumerate(gateways):
        namespace, slash, short_name = name.rpartition("/")
        good = is_label(short_name) and (namespace == "." or is_label(namespace)) if slash else is_host(name)
        if not good:
            message = f"expected a gateway such as lab-gateway or default/lab-gateway, found `{short(name)}`"
            found.add_problem(("spec", "gateways", index), message)


def _hosts(hosts: list[str], at_gateway: bool, found: Findings) -> None:
    good: HostMap[int] = HostMap()
    for index, host in enumerate(hosts):
        path: Path = ("spec", "hosts", index)
        if not is_host(host, star=True) and not is_address(host):
            found.add_problem(
                path, f'expected a host such as "*" or shop.lab.test, without a port, found `{short(host)}`'
            )
        elif host == "*" and not at_gateway:
            found.add_problem(path, "`*` requires a gateway; without one, list the hosts")
        else:
            if (twin := good.overlapping(host)) is not None:
                found.add_problem(path, f"`{host}` and `{twin}` overlap in one list; keep one of them")
            good[host] = index


def _unreachable(routes: list[dict[str, Any]], found: Findings) -> None:
    earlier_matches = EarlierMatches()
    for index, route in enumerate(routes):
        path: Path = ("spec", "http", index)
        for number, match in enumerate(route.get("match") or [{}]):
            match_path = (*path, "match", number) if route.get("match") else path
            if blocker := earlier_matches.covering(match):
                line = found.document.line(*blocker)
                what = "every request" if blocker == earlier_matches.everything else "the same requests"
                found.add_warning(match_path, f"is never reached: an earlier match on line {line} takes {what}")
            earlier_matches.add(match, match_path)
