"""The form of names of hosts, labels and ports, by the DNS rules that Istio applies."""

from __future__ import annotations

import re
from ipaddress import ip_network

from labstack.istio.model import hosts

LABEL = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?")
FIRST_LABEL = re.compile(rf"\*|(\*-?)?{LABEL.pattern}")


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
    """Report whether `text` is an IP address without a zone."""
    return "%" not in text and hosts.is_address(text)


def is_range(text: str) -> bool:
    """Report whether `text` is an IP address or a range such as 10.0.0.0/8."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True
