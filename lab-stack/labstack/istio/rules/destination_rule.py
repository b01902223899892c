"""Istio's rules for a DestinationRule."""

from __future__ import annotations

from math import isqrt
from typing import Any

from labstack.istio import durations
from labstack.istio.rules.findings import Findings, Path
from labstack.istio.rules.names import is_host, is_label
from labstack.istio.words import short

POLICIES = ("connectionPool", "loadBalancer", "outlierDetection", "tls")
MORE_POLICIES = (*POLICIES, "portLevelSettings", "tunnel", "proxyProtocol", "retryBudget")
HASHES = ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName")
TABLE_LIMIT = 5_000_011


def destination_rule(spec: dict[str, Any], found: Findings) -> None:
    """Check the spec of a DestinationRule."""
    if not is_host(spec["host"], star=True):
        message = f"expected a host such as order, found `{short(spec['host'])}`"
        found.add_problem(("spec", "host"), message)
    _policy(spec.get("trafficPolicy"), ("spec", "trafficPolicy"), found)
    names: dict[str, int] = {}
    for index, subset in enumerate(spec.get("subsets", [])):
        path: Path = ("spec", "subsets", index)
        name = subset["name"]
        if not is_label(name):
            message = f"expected a name of letters, digits and `-` such as v1, found `{short(name)}`"
            found.add_problem((*path, "name"), message)
        if name in names:
            line = found.document.line("spec", "subsets", names[name], "name")
            message = f"the subset `{short(name)}` occurs twice; the first is on line {line}"
            found.add_problem((*path, "name"), message)
        names.setdefault(name, index)
        _policy(subset.get("trafficPolicy"), (*path, "trafficPolicy"), found)


def _policy(policy: dict[str, Any] | None, path: Path, found: Findings) -> None:
    if policy is None:
        return
    if not any(name in policy for name in MORE_POLICIES):
        found.add_problem(path, "the trafficPolicy is empty; set a field, or omit it")
    if "tunnel" in policy and "proxyProtocol" in policy:
        found.add_problem(
            (*path, "proxyProtocol"), "both `tunnel` and `proxyProtocol` are set; only one of them is allowed"
        )
    _parts(policy, path, found)
    for index, level in enumerate(policy.get("portLevelSettings", [])):
        inner = (*path, "portLevelSettings", index)
        if "port" not in level:
            found.add_problem((*inner, "port"), "is missing; expected a port such as {number: 8000}")
        elif not 1 <= level["port"].get("number", 0) <= 65535:
            found.add_problem((*inner, "port"), "expected a port with a number from 1 to 65535")
        if not any(name in level for name in POLICIES):
            found.add_problem(inner, "these port settings are empty; set a field, or omit them")
        _parts(level, inner, found)


def _parts(policy: dict[str, Any], path: Path, found: Findings) -> None:
    if "outlierDetection" in policy:
        _outliers(policy["outlierDetection"], (*path, "outlierDetection"), found)
    if "connectionPool" in policy:
        _pool(policy["connectionPool"], (*path, "connectionPool"), found)
    if "loadBalancer" in policy:
        _balancer(policy["loadBalancer"], (*path, "loadBalancer"), found)


def _outliers(outliers: dict[str, Any], path: Path, found: Findings) -> None:
    for name in ("maxEjectionPercent", "minHealthPercent"):
        if not 0 <= outliers.get(name, 0) <= 100:
            found.add_problem((*path, name), f"expected a percentage from 0 to 100, found the number {outliers[name]}")
    if outliers.get("consecutiveLocalOriginFailures") and not outliers.get("splitExternalLocalOriginErrors"):
        message = "has an effect only with `splitExternalLocalOriginErrors: true`"
        found.add_problem((*path, "consecutiveLocalOriginFailures"), message)
    if outliers.get("consecutiveErrors"):
        message = "is deprecated; use consecutiveGatewayErrors or consecutive5xxErrors"
        found.add_warning((*path, "consecutiveErrors"), message)
    _milliseconds(outliers, ("baseEjectionTime", "interval"), path, found)


def _pool(pool: dict[str, Any], path: Path, found: Findings) -> None:
    http, tcp = pool.get("http"), pool.get("tcp")
    if http is None and tcp is None:
        found.add_problem(path, "the connectionPool is empty; set `http` or `tcp`, or omit it")
    for name, part in (("http", http or {}), ("tcp", tcp or {})):
        for setting, value in part.items():
            if isinstance(value, int) and value < 0:
                found.add_problem((*path, name, setting), f"expected a number of at least 0, found {value}")
    if (http or {}).get("h2UpgradePolicy") == "UPGRADE" and (http or {}).get("useClientProtocol"):
        message = "true conflicts with `h2UpgradePolicy: UPGRADE`; only one of them can determine the protocol"
        found.add_problem((*path, "http", "useClientProtocol"), message)
    _milliseconds(http or {}, ("idleTimeout",), (*path, "http"), found)
    _milliseconds(tcp or {}, ("connectTimeout", "maxConnectionDuration", "idleTimeout"), (*path, "tcp"), found)


def _balancer(balancer: dict[str, Any], path: Path, found: Findings) -> None:
    if "consistentHash" in balancer:
        _consistent_hash(balancer["consistentHash"], (*path, "consistentHash"), found)
    warmup = balancer.get("warmup") or {}
    aggression = warmup.get("aggression")
    if aggression is not None and aggression < 1:
        found.add_problem((*path, "warmup", "aggression"), f"expected a number of at least 1, found {aggression}")


def _consistent_hash(settings: dict[str, Any], path: Path, found: Findings) -> None:
    if not any(name in settings for name in HASHES):
        message = f"has no hash key, so a request can go to any endpoint; set one of {', '.join(HASHES)}"
        found.add_warning(path, message)
    if settings.get("minimumRingSize"):
        found.add_warning((*path, "minimumRingSize"), "is deprecated; use ringHash: {minimumRingSize: ...}")
        if "ringHash" in settings or "maglev" in settings:
            message = "both `minimumRingSize` and `ringHash` or `maglev` are set; only one of them is allowed"
            found.add_problem((*path, "minimumRingSize"), message)
    if "maglev" in settings:
        size = settings["maglev"].get("tableSize", 0)
        if not 0 < size < TABLE_LIMIT or not _is_prime(size):
            message = f"expected a prime number below {TABLE_LIMIT} such as 65537, found {size}"
            found.add_problem((*path, "maglev", "tableSize"), message)
    cookie = settings.get("httpCookie", {})
    if "httpCookie" in settings and not cookie["name"]:
        found.add_problem((*path, "httpCookie", "name"), "expected the name of a cookie, found an empty string")
    names = set()
    for index, attribute in enumerate(cookie.get("attributes", [])):
        if not attribute["name"] or attribute["name"] in names:
            what = "occurs twice" if attribute["name"] else "is empty"
            found.add_problem((*path, "httpCookie", "attributes", index, "name"), f"the attribute's name {what}")
        names.add(attribute["name"])


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, isqrt(number) + 1))


def _milliseconds(settings: dict[str, Any], names: tuple[str, ...], path: Path, found: Findings) -> None:
    for name in names:
        whole_milliseconds(settings.get(name), (*path, name), found)


def whole_milliseconds(value: str | None, path: Path, found: Findings) -> None:
    """Record a duration that is not a whole number of milliseconds, which Istio rejects."""
    length = durations.nanoseconds(value) if value else None
    if length is not None and length % 10**6:
        found.add_problem(path, f"expected a duration in whole milliseconds such as 10ms, found `{value}`")
