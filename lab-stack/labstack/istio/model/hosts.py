"""Names of hosts and gateways: expansion of short names, matching of wildcards, and lookup by host."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
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
    """Return the full name of a host written in `namespace`: ``order`` becomes ``order.default.svc.cluster.local``.

    A name with a dot, an address and ``*`` stay unchanged, as in Istio (pilot/pkg/model, ResolveShortnameToFQDN).
    """
    if not host or host == "*" or "." in host or is_address(host):
        return host
    return f"{host}.{namespace}.svc.{DOMAIN}"


def short_name(host: str, namespace: str) -> str:
    """Return a full name as a document in `namespace` can write it: in short form if the host is in that namespace."""
    return host.removesuffix(f".{namespace}.svc.{DOMAIN}")


def gateway_name(gateway: str, namespace: str) -> str:
    """Return namespace/name of the Gateway that a VirtualService in `namespace` names. ``mesh`` means the sidecars.

    The forms are ``name``, ``namespace/name``, ``./name`` and the outdated ``name.namespace.svc.cluster.local``, as in
    Istio (pilot/pkg/model, resolveGatewayName).
    """
    if gateway == "mesh":
        return gateway
    owner, slash, name = gateway.partition("/")
    if slash:
        return f"{namespace if owner == '.' else owner}/{name}"
    parts = gateway.split(".")
    return f"{parts[1] if len(parts) > 1 else namespace}/{parts[0]}"


def is_subset(host: str, other: str) -> bool:
    """Report whether `other` matches every host that `host` matches."""
    if is_wildcard(host):
        return is_wildcard(other) and host[1:].endswith(other[1:])
    return host.endswith(other[1:]) if is_wildcard(other) else host == other


def overlap(host: str, other: str) -> bool:
    """Report whether some host matches both names. Either may be a wildcard."""
    return is_subset(host, other) or is_subset(other, host)


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


class HostMap(dict[str, Value]):
    """Values by host name or wildcard, in the order of their addition. Lookup is fast also with thousands of names."""

    def covering(self, host: str) -> str | None:
        """Return the most specific name that matches every host that `host` matches: the same name, or a wildcard."""
        if host in self:
            return host
        text = host.removeprefix("*")
        wildcards = (f"*{text[start:]}" for start in range(len(text) + 1))
        return next((wildcard for wildcard in wildcards if wildcard in self), None)

    def overlapping(self, host: str) -> str | None:
        """Return a name that overlaps with `host`, or None. One that covers it takes precedence, then an exact one."""
        covering = self.covering(host)
        if covering is not None or not is_wildcard(host):
            return covering
        return min((name for name in self if overlap(name, host)), key=is_wildcard, default=None)

    def most_specific(self, host: str) -> Value | None:
        """Return the value of the name that covers `host`, or None."""
        covering = self.covering(host)
        return None if covering is None else self[covering]
