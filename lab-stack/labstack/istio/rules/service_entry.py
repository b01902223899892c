"""Istio's rules for a ServiceEntry."""

from __future__ import annotations

from typing import Any

from labstack.istio.rules.findings import Findings, Path
from labstack.istio.rules.names import HTTP, PROTOCOLS, TLS, full, is_address, is_host, is_label, is_range
from labstack.istio.words import did_you_mean, listed, short

DNS = {"DNS", "DNS_ROUND_ROBIN"}


def service_entry(spec: dict[str, Any], found: Findings) -> None:
    """Check the spec of a ServiceEntry."""
    resolution = spec.get("resolution", "NONE")
    _hosts(spec, resolution, found)
    for index, address in enumerate(spec.get("addresses", [])):
        if not is_range(address):
            message = f"`{short(address)}` where an IP address or a range such as 10.0.0.0/8 is expected"
            found.wrong(("spec", "addresses", index), message)
    _ports(spec, resolution, found)
    _endpoints(spec, resolution, found)
    if resolution == "DYNAMIC_DNS":
        _dynamic(spec, found)


def _hosts(spec: dict[str, Any], resolution: str, found: Findings) -> None:
    for index, host in enumerate(spec["hosts"]):
        path = ("spec", "hosts", index)
        if not is_host(host, star=True):
            message = f"`{short(host)}` where a host is expected, such as order.default.svc.cluster.local"
            found.wrong(path, message)
        elif "." not in host and "*" not in host:
            meant = full(host, found.document.namespace)
            message = f"`{host}` has no dot; a route to `{host}` means {meant}, which is another host: write that here"
            found.doubtful(path, message)
        elif "*" in host and not host.startswith("*.") and resolution != "DYNAMIC_DNS":
            found.doubtful(path, f"`{host}`: a `*` stands for whole labels only, as in `*.lab.test`")


def _ports(spec: dict[str, Any], resolution: str, found: Findings) -> None:
    ports = spec.get("ports", [])
    if not ports:
        found.doubtful(("spec", "ports"), "no ports, so nothing can be sent to this host")
    for index, port in enumerate(ports):
        path = ("spec", "ports", index)
        if not is_label(port["name"]):
            message = f"`{short(port['name'])}` where a name of letters, digits and `-` is expected, such as http"
            found.wrong((*path, "name"), message)
        protocol = port.get("protocol", "")
        known = sorted(name.upper() for name in PROTOCOLS)
        if protocol and protocol.lower() not in PROTOCOLS:
            hint = did_you_mean(protocol, known)
            message = f"`{short(protocol)}` where one of {listed(known)} is expected{hint}"
            found.wrong((*path, "protocol"), message)
        if resolution != "NONE" and len(spec["hosts"]) > 1 and protocol.lower() not in HTTP | TLS:
            many = len(spec["hosts"])
            message = f"{many} hosts share a port of {protocol or 'no protocol'}; only HTTP and TLS tell them apart"
            found.wrong((*path, "protocol"), message)


def _endpoints(spec: dict[str, Any], resolution: str, found: Findings) -> None:
    endpoints = spec.get("endpoints", [])
    names = [port["name"] for port in spec.get("ports", [])]
    if resolution == "STATIC" and not endpoints and "workloadSelector" not in spec:
        message = "no endpoints; with resolution STATIC every request gets a 503"
        found.doubtful(("spec", "endpoints"), message)
    if resolution == "NONE":
        message = "NONE sends requests on to the address they came to, which a gateway doesn't know; use STATIC or DNS"
        found.doubtful(("spec", "resolution"), message)
    if resolution in DNS and not endpoints:
        for index, host in enumerate(spec["hosts"]):
            if not is_host(host):
                message = f"`{short(host)}` can't be looked up; with {resolution} give full hosts, or endpoints"
                found.wrong(("spec", "hosts", index), message)
    for index, endpoint in enumerate(endpoints):
        path = ("spec", "endpoints", index)
        _address(endpoint, resolution, path, found)
        for name in endpoint.get("ports", {}):
            if name not in names:
                hint = did_you_mean(name, names, 0.4)
                message = f"`{short(name)}` is none of this entry's ports{hint}; it has {listed(names) or 'none'}"
                found.wrong((*path, "ports", name), message)


def _address(endpoint: dict[str, Any], resolution: str, path: Path, found: Findings) -> None:
    address = endpoint.get("address", "")
    if not address or is_address(address) or address.startswith("unix://"):
        return
    if resolution == "STATIC":
        hint = "; `resolution: DNS` takes names" if is_host(address) else ""
        message = f"`{short(address)}` where an IP address is expected, such as 127.0.0.1{hint}"
        found.wrong((*path, "address"), message)
    elif not is_host(address):
        message = f"`{short(address)}` where a host's name or an IP address is expected; the port stands in `ports`"
        found.wrong((*path, "address"), message)


def _dynamic(spec: dict[str, Any], found: Findings) -> None:
    for index, host in enumerate(spec["hosts"]):
        if not host.startswith("*"):
            message = f"`{short(host)}` where DYNAMIC_DNS takes hosts with a `*` only"
            found.wrong(("spec", "hosts", index), message)
    for name in ("addresses", "endpoints"):
        if spec.get(name):
            found.wrong(("spec", name), f"{name} beside DYNAMIC_DNS, which finds them by the request's host")
    if spec.get("location") != "MESH_EXTERNAL":
        found.wrong(("spec", "location"), "DYNAMIC_DNS goes with `location: MESH_EXTERNAL` only")
