"""The validation rules in the schemas, each as a named check.

A cluster evaluates these rules in CEL, a small expression language. There are few of them, so each is implemented here
as a function, looked up by the digest of the rule's text. A rule that a new version of Istio adds or changes has no
function, and a test reports it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from labstack.istio import durations
from labstack.istio.words import seen, short

Found = Iterator[tuple[tuple[str | int, ...], str]]
PORT_NAME = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?")
UNIX = "unix://"


def _a_millisecond_at_least(value: str) -> Found:
    length = durations.nanoseconds(value)
    if length is not None and length < 10**6:
        yield (), f"expected a duration of at least 1ms, found {seen(value)}; for none, omit the field"


def _no_star_in_keys(value: dict[str, Any]) -> Found:
    for key in value:
        if "*" in key:
            yield (key,), f"expected a label without `*`, found `{short(key)}`"


def _no_empty_keys(value: dict[str, Any]) -> Found:
    if "" in value:
        yield ("",), "expected the name of a label, found an empty string"


def _no_star(value: str) -> Found:
    if "*" in value:
        yield (), f"expected a label value without `*`, found {seen(value)}"


def _only_one(*names: str) -> Callable[[dict[str, Any]], Found]:
    def check(value: dict[str, Any]) -> Found:
        if all(name in value for name in names):
            yield (names[-1],), f"both `{names[0]}` and `{names[1]}` are set; only one of them is allowed"

    return check


def _ranges_need_static_or_none(value: dict[str, Any]) -> Found:
    if value.get("resolution", "NONE") not in {"STATIC", "NONE"}:
        for index, address in enumerate(value.get("addresses", [])):
            if "/" in address:
                yield ("addresses", index), f"the range `{short(address)}` requires resolution STATIC or NONE"


def _none_has_no_endpoints(value: dict[str, Any]) -> Found:
    if value.get("resolution", "NONE") == "NONE" and "endpoints" in value:
        missing = "resolution" not in value
        what = "resolution is missing, which means NONE; it" if missing else "resolution NONE"
        yield ("endpoints",), f"{what} allows no endpoints; to use endpoints, set `resolution: STATIC`"


def _round_robin_has_one_endpoint(value: dict[str, Any]) -> Found:
    endpoints = value.get("endpoints", [])
    if value.get("resolution") == "DNS_ROUND_ROBIN" and len(endpoints) > 1:
        yield ("endpoints",), f"DNS_ROUND_ROBIN allows at most one endpoint, found {len(endpoints)}; use DNS"


def _needs_an_address(value: dict[str, Any]) -> Found:
    if "address" not in value and "network" not in value:
        yield ("address",), "is missing; an endpoint needs an address such as 127.0.0.1"


def _socket_has_no_ports(value: dict[str, Any]) -> Found:
    if value.get("address", "").startswith(UNIX) and "ports" in value:
        yield ("ports",), "a Unix socket has no ports; remove them"


def _socket_is_absolute(value: str) -> Found:
    if value.startswith(UNIX) and value[7:8] not in {"/", "@"}:
        yield (), f"expected an absolute path such as unix:///run/order.sock, found {seen(value)}"


def _socket_is_no_folder(value: str) -> Found:
    if value.startswith(UNIX) and value.endswith("/"):
        yield (), f"expected the path of a socket, found the path of a folder: {seen(value)}"


def _port_names(value: dict[str, Any]) -> Found:
    for name in value:
        if len(name) >= 63 or not PORT_NAME.fullmatch(name):
            yield (name,), f"expected a port name of letters, digits and `-`, found `{short(name)}`"


def _is_a_port(value: int) -> Found:
    if not 0 < value <= 65535:
        yield (), f"expected a port from 1 to 65535, found {seen(value)}"


def _not_every_host(value: str) -> Found:
    if value == "*":
        yield (), "expected the name of a host such as order.default.svc.cluster.local, found `*`"


def _port_numbers_differ(value: list[dict[str, Any]]) -> Found:
    first: dict[int, int] = {}
    for index, port in enumerate(value):
        number = port["number"]
        if number in first:
            yield (index, "number"), f"port {number} occurs twice in this list; the first is item {first[number]}"
        first.setdefault(number, index)


CHECKS: dict[str, Callable[[Any], Found]] = {
    "b285c881": _a_millisecond_at_least,
    "26758da2": _no_star_in_keys,
    "8a1f9f4d": _no_empty_keys,
    "6d84550d": _no_star,
    "e533e1c0": _only_one("tlsCertificates", "credentialNames"),
    "ed1c6e37": _only_one("credentialName", "credentialNames"),
    "e873d174": _only_one("tlsCertificates", "credentialNames"),
    "95dbd45e": _only_one("workloadSelector", "endpoints"),
    "ae7cd287": _ranges_need_static_or_none,
    "979d36ca": _none_has_no_endpoints,
    "f8aacd3a": _round_robin_has_one_endpoint,
    "3ff6915a": _needs_an_address,
    "7b6fa208": _socket_has_no_ports,
    "9e3044fa": _socket_is_absolute,
    "000638c1": _socket_is_no_folder,
    "c2aa73ba": _port_names,
    "3bf4e859": _is_a_port,
    "7451de17": _not_every_host,
    "e33b2a39": _port_numbers_differ,
}


def check_of(rule: str) -> Callable[[Any], Found]:
    """Return the check that implements a rule.

    Raises
    ------
    KeyError
        No check implements the rule: the schemas are newer than the checks.
    """
    return CHECKS[hashlib.sha256(rule.encode()).hexdigest()[:8]]
