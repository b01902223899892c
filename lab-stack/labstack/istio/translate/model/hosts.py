"""Host names: matching, specificity, and expansion of short names."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import TypeVar

DOMAIN = "cluster.local"
Value = TypeVar("Value")


def is_wildcard(host: str) -> bool:
    """Report whether a host name is a wildcard."""
    return host.startswith("*")


def is_address(host: str) -> bool:
    """Report whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def full_name(host: str, namespace: str) -> str:
    """Return the full name of a host written in `namespace`. A name without a dot is a service in that namespace."""
    if not host or host == "*" or "." in host or is_address(host):
        return host
    return f"{host}.{namespace}.svc.{DOMAIN}"


def gateway_name(gateway: str, namespace: str) -> str:
    """Return namespace/name of a gateway that a VirtualService in `namespace` names. ``mesh`` means the sidecars."""
    if gateway == "mesh":
        return gateway
    if "/" in gateway:
        return namespace + gateway[1:] if gateway.startswith("./") else gateway
    name, _, rest = gateway.partition(".")  # the outdated form name.namespace.svc.cluster.local
    return f"{rest.split('.')[0] if rest else namespace}/{name}"


def is_subset(host: str, other: str) -> bool:
    """Report whether `other` matches every host that `host` matches."""
    if is_wildcard(host):
        return is_wildcard(other) and len(host) >= len(other) and host[1:].endswith(other[1:])
    return host.endswith(other[1:]) if is_wildcard(other) else host == other


def intersection(hosts: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the more specific host of each overlapping pair, without duplicates, in the order of `hosts`."""
    others = list(others)
    result: dict[str, None] = {}
    for host in hosts:
        for other in others:
            if is_subset(host, other):
                result.setdefault(host)
            elif is_subset(other, host):
                result.setdefault(other)
    return list(result)


def specificity(host: str) -> tuple[bool, int, str]:
    """Return a sort key, most specific first: exact before wildcard, long before short, then alphabetically."""
    return is_wildcard(host), -len(host), host


def most_specific(host: str, by_host: Mapping[str, Value]) -> Value | None:
    """Return the value of the most specific pattern that covers `host`, or None. An identical one takes precedence."""
    if host in by_host:
        return by_host[host]
    needle = host[1:] if is_wildcard(host) else host
    covering = [pattern for pattern in by_host if is_wildcard(pattern) and needle.endswith(pattern[1:])]
    return by_host[min(covering, key=specificity)] if covering else None
