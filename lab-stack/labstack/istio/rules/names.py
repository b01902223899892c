"""Names of hosts, labels and ports, by the DNS rules that Istio applies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

LABEL = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?")
FIRST_LABEL = re.compile(rf"\*|(\*-?)?{LABEL.pattern}")
DOMAIN = "cluster.local"
HTTP = {"http", "http2", "http_proxy", "grpc", "grpc-web"}
TLS = {"https", "tls"}
PROTOCOLS = HTTP | TLS | {"tcp", "udp", "mongo", "redis", "mysql"}


def is_label(text: str) -> bool:
    """Report whether `text` is one label of a DNS name."""
    return len(text) <= 63 and LABEL.fullmatch(text) is not None


def is_host(text: str, *, star: bool = False) -> bool:
    """Report whether `text` is a DNS name. With `star`, its first label may be or start with ``*``."""
    if not text or len(text) > 255:
        return False
    first, *rest = text.removesuffix(".").split(".")
    good = FIRST_LABEL.fullmatch(first) is not None and len(first) <= 63 if star else is_label(first)
    return good and all(is_label(label) for label in rest)


def is_address(text: str) -> bool:
    """Report whether `text` is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def is_range(text: str) -> bool:
    """Report whether `text` is an IP address or a range such as 10.0.0.0/8."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def full(host: str, namespace: str) -> str:
    """Return the full host of a short name in a namespace: ``order`` becomes ``order.default.svc.cluster.local``.

    A name with a dot, an address and ``*`` stay unchanged, as in Istio (pilot/pkg/model, ResolveShortnameToFQDN).
    """
    if not host or "." in host or host == "*" or is_address(host):
        return host
    return f"{host}.{namespace}.svc.{DOMAIN}"


def covers(pattern: str, host: str) -> bool:
    """Report whether some host matches both `pattern` and `host`. Either may start with ``*``."""
    if pattern[:1] == "*" and host[:1] == "*":
        return pattern[1:].endswith(host[1:]) or host[1:].endswith(pattern[1:])
    if pattern[:1] == "*":
        return host.endswith(pattern[1:])
    if host[:1] == "*":
        return pattern.endswith(host[1:])
    return pattern == host


class Hosts:
    """A set of hosts and patterns with fast lookup, also for thousands of entries."""

    def __init__(self) -> None:
        self._exact: dict[str, None] = {}
        self._endings: dict[str, str] = {}

    def add(self, host: str) -> None:
        """Add a host, or a pattern that starts with ``*``."""
        if host[:1] == "*":
            self._endings[host[1:]] = host
        else:
            self._exact[host] = None

    def wildcard(self, host: str) -> str | None:
        """Return the most specific pattern that matches `host`, or None."""
        text = host.removeprefix("*")
        return next((self._endings[text[at:]] for at in range(len(text) + 1) if text[at:] in self._endings), None)

    def find(self, host: str) -> str | None:
        """Return an entry that `covers` the host, or None."""
        if host in self._exact:
            return host
        if (pattern := self.wildcard(host)) is not None:
            return pattern
        if host[:1] == "*":
            return next((one for one in (*self._exact, *self._endings.values()) if covers(one, host)), None)
        return None

    def __iter__(self) -> Iterator[str]:
        yield from self._exact
        yield from self._endings.values()
