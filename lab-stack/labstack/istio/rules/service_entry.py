"""Istio's rules for a ServiceEntry."""

from __future__ import annotations

from typing import Any

from labstack.istio.model.hosts import full_name
from labstack.istio.model.protocols import HTTP, PROTOCOLS, TLS, UNIX
from labstack.istio.rules.findings import Findings, Path
from labstack.istio.rules.names import is_address, is_host, is_label, is_range
from labstack.istio.words import did_you_mean, listed, short

DNS = {"DNS", "DNS_ROUND_ROBIN"}


def service_entry(spec: dict[str, Any], found: Findings) -> None:
    """Check the spec of a ServiceEntry."""
    resolution = spec.get("resolution", "NONE")
    _hosts(spec, resolution, found)
    for index, address in enumerate(spec.get("addresses", [])):
        if not is_range(address):
            message = f"expected an IP address or a range such as 10.0.0.0/8, found `{short(address)}`"
            found.add_problem(("spec", "addresses", index), message)
    _ports(spec, resolution, found)
    _endpoints(spec, resolution, found)
    if resolution == "DYNAMIC_DNS":
        _dynamic(spec, found)


def _hosts(spec: dict[str, Any], resolution: str, found: Findings) -> None:
    for index, host in enumerate(spec["hosts"]):
        path = ("spec", "hosts", index)
        if not is_host(host, star=True):
            message = f"expected a host such as order.default.svc.cluster.local, found `{short(host)}`"
            found.add_problem(path, message)
        elif "." not in host and "*" not in host:
            meant = full_name(host, found.document.namespace)
            message = f"`{host}` has no dot, but a route to `{host}` means the host {meant}; write the full name here"
            found.add_warning(path, message)
        elif "*" in host and not host.startswith("*.") and resolution != "DYNAMIC_DNS":
            found.add_warning(path, f"`{host}`: a `*` can replace only whole labels, as in `*.lab.test`")


def _ports(spec: dict[str, Any], resolution: str, found: Findings) -> None:
    ports = spec.get("ports", [])
    if not ports:
        found.add_warning(("spec", "ports"), "has no ports, so this host can receive no requests")
    for index, port in enumerate(ports):
        path = ("spec", "ports", index)
        if not is_label(port["name"]):
            message = f"expected a name of letters, digits and `-` such as http, found `{short(port['name'])}`"
            found.add_problem((*path, "name"), message)
        protocol = port.get("protocol", "")
        known = sorted(name.upper() for name in PROTOCOLS)
        if protocol and protocol.lower() not in PROTOCOLS:
            hint = did_you_mean(protocol, known)
            message = f"expected one of {listed(known)}, found `{short(protocol)}`{hint}"
            found.add_problem((*path, "protocol"), message)
        if resolution != "NONE" and len(spec["hosts"]) > 1 and protocol.lower() not in HTTP | TLS:
            many = len(spec["hosts"])
            message = f"{many} hosts share a port with {protocol or 'no protocol'}; only HTTP and TLS distinguish hosts"
            found.add_problem((*path, "protocol"), message)


def _endpoints(spec: dict[str, Any], resolution: str, found: Findings) -> None:
    endpoints = spec.get("endpoints", [])
    names = [port["name"] for port in spec.get("ports", [])]
    if resolution == "STATIC" and not endpoints and "workloadSelector" not in spec:
        message = "has no endpoints; with resolution STATIC, every request gets a 503"
        found.add_warning(("spec", "endpoints"), message)
    if resolution == "NONE":
        message = "NONE forwards requests to their original address, which a gateway doesn't know; use STATIC or DNS"
        found.add_warning(("spec", "resolution"), message)
    if resolution in DNS and not endpoints:
        for index, host in enumerate(spec["hosts"]):
            if not is_host(host):
                message = f"DNS can't resolve `{short(host)}`; with {resolution}, use full host names or endpoints"
                found.add_problem(("spec", "hosts", index), message)
    for index, endpoint in enumerate(endpoints):
        path = ("spec", "endpoints", index)
        _address(endpoint, resolution, path, found)
        for name in endpoint.get("ports", {}):
            if name not in names:
                hint = did_you_mean(name, names, 0.4)
                message = f"this entry has no port `{short(name)}`{hint}; it has {listed(names) or 'no ports'}"
                found.add_problem((*path, "ports", name), message)


def _address(endpoint: dict[str, Any], resolution: str, path: Path, found: Findings) -> None:
    address = endpoint.get("address", "")
    if not address or is_address(address) or address.startswith(UNIX):
        return
    if resolution == "STATIC":
        hint = "; `resolution: DNS` accepts names" if is_host(address) else ""
        message = f"expected an IP address such as 127.0.0.1, found `{short(address)}`{hint}"
        found.add_problem((*path, "address"), message)
    elif not is_host(address):
        message = f"expected a host name or an IP address, found `{short(address)}`; the port belongs in `ports`"
        found.add_problem((*path, "address"), message)


def _dynamic(spec: dict[str, Any], found: Findings) -> None:
    for index, host in enumerate(spec["hosts"]):
        if not host.startswith("*"):
            message = f"DYNAMIC_DNS requires a host with a `*`, found `{short(host)}`"
            found.add_problem(("spec", "hosts", index), message)
    for name in ("addresses", "endpoints"):
        if spec.get(name):
            found.add_problem(
                ("spec", name), f"DYNAMIC_DNS does not allow {name}, because it resolves the request's host"
            )
    if spec.get("location") != "MESH_EXTERNAL":
        found.add_problem(("spec", "location"), "DYNAMIC_DNS requires `location: MESH_EXTERNAL`")
