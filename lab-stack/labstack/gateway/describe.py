"""Readable views of Envoy's configuration: its routes as a table, and the effect of a change as a diff."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from labstack.config.paths import LabPaths, writable_folder, write_atomically

Configuration = Mapping[str, Mapping[str, Mapping[str, Any]]]
FAULT = "envoy.filters.http.fault"


@dataclass(frozen=True)
class Route:
    """One Envoy route.

    Attributes
    ----------
    hosts : str
        Hosts to which the route applies.
    name : str
        Name in the VirtualService.
    match : str
        Conditions that a request must meet.
    to : str
        Destinations, with weights in percent if there are several.
    policy : str
        Timeouts, retries, faults and mirrors.
    """

    hosts: str
    name: str
    match: str
    to: str
    policy: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def routes(configuration: Configuration) -> list[Route]:
    """Return all routes, in the order in which Envoy tries them."""
    return [
        Route(", ".join(host["domains"]), route.get("name", ""), _match(route["match"]), _to(route), _policy(route))
        for config in configuration["routes"].values()
        for host in config.get("virtual_hosts", ())
        for route in host.get("routes", ())
    ]


def _match(match: Mapping[str, Any]) -> str:
    words = []
    for kind in ("prefix", "path", "path_separated_prefix"):
        if kind in match:
            words.append(f"{match[kind]}" if kind == "path" else f"{match[kind]}*")
    if "safe_regex" in match:
        words.append(f"~{match['safe_regex']['regex']}")
    if match.get("case_sensitive") is False:
        words.append("(any case)")
    for header in match.get("headers", ()):
        name = {":method": "method", ":authority": "authority"}.get(header["name"], header["name"])
        words.append(
            f"{'not ' if header.get('invert_match') else ''}{name}{_match_condition(header.get('string_match'))}"
        )
    for parameter in match.get("query_parameters", ()):
        words.append(f"?{parameter['name']}{_match_condition(parameter.get('string_match'))}")
    return " ".join(words)


def _match_condition(match: Mapping[str, Any] | None) -> str:
    if not match:
        return " is present"
    kind, value = next((k, v) for k, v in match.items() if k != "ignore_case")
    return {"exact": f"={value}", "prefix": f"={value}*"}.get(
        kind, f"~{value['regex']}" if isinstance(value, Mapping) else f" {kind} {value}"
    )


def _to(route: Mapping[str, Any]) -> str:
    if "redirect" in route:
        aim = route["redirect"]
        return f"redirect {aim.get('host_redirect', '')}{aim.get('path_redirect', aim.get('prefix_rewrite', ''))}"
    if "direct_response" in route:
        return f"direct response {route['direct_response']['status']}"
    action = route.get("route", {})
    if weighted := action.get("weighted_clusters"):
        clusters = weighted["clusters"]
        whole = sum(one.get("weight", 0) for one in clusters) or 1
        return ", ".join(f"{_cluster(one['name'])} {100 * one.get('weight', 0) / whole:.0f}%" for one in clusters)
    return _cluster(action.get("cluster", ""))


def _cluster(name: str) -> str:
    """Return a short cluster name: ``outbound|8000|v1|order.default.svc.cluster.local`` becomes ``order v1``."""
    parts = name.split("|")
    if len(parts) != 4:
        return name
    return f"{parts[3].split('.')[0]} {parts[2]}".strip()


def _policy(route: Mapping[str, Any]) -> str:
    action, words = route.get("route", {}), []
    if action.get("timeout", "0s") != "0s":
        words.append(f"timeout {action['timeout']}")
    retry = action.get("retry_policy", {})
    if times := retry.get("num_retries"):
        each = f", {retry['per_try_timeout']} each" if "per_try_timeout" in retry else ""
        words.append(f"{times} retries on {retry.get('retry_on', '')}{each}")
    fault = route.get("typed_per_filter_config", {}).get(FAULT, {})
    if "delay" in fault:
        words.append(f"delays {_share(fault['delay'])} by {fault['delay'].get('fixed_delay')}")
    if "abort" in fault:
        words.append(f"aborts {_share(fault['abort'])} with {fault['abort'].get('http_status')}")
    for mirror in action.get("request_mirror_policies", ()):
        words.append(f"mirrors to {_cluster(mirror['cluster'])}")
    return "; ".join(words)


def _share(fault: Mapping[str, Any]) -> str:
    percentage = fault.get("percentage", {})
    parts = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}
    return f"{100 * percentage.get('numerator', 0) / parts[percentage.get('denominator', 'HUNDRED')]:g}%"


# -- differences ---------------------------------------------------------------------------------------------------


def save(paths: LabPaths, configuration: Configuration) -> None:
    """Save Envoy's configuration as it was before a change."""
    write_atomically(writable_folder(paths.config("mesh")) / "before.json", json.dumps(configuration))


def saved(paths: LabPaths) -> Configuration:
    """Return the saved configuration, or an empty one if there was no change yet."""
    try:
        found: Configuration = json.loads((paths.config("mesh") / "before.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def difference(before: Configuration, after: Configuration) -> str:
    """Return a unified diff of two configurations, resource by resource."""
    return "\n".join(line for name in after for line in _differences(name, before.get(name, {}), after[name]))


def _differences(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        old, new = (_text(side.get(name)) for side in (before, after))
        yield from difflib.unified_diff(old, new, f"{kind}/{name} (before)", f"{kind}/{name} (now)", lineterm="", n=3)


def _text(resource: Mapping[str, Any] | None) -> list[str]:
    return yaml.safe_dump(resource, sort_keys=True).splitlines() if resource else []
