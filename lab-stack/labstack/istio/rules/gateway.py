"""Istio's rules for a Gateway."""

from __future__ import annotations

from typing import Any

from labstack.istio.rules.findings import Findings, Path
from labstack.istio.rules.names import HTTP, PROTOCOLS, TLS, is_address, is_host, is_label
from labstack.istio.words import did_you_mean, listed, short

UNIX = "unix://"


def gateway(spec: dict[str, Any], found: Findings) -> None:
    """Check the spec of a Gateway."""
    name = found.document.name
    if not is_label(name):
        found.wrong(("metadata", "name"), f"`{short(name)}` where a Gateway's name has no dots, such as `lab-gateway`")
    servers = spec.get("servers", [])
    if not servers:
        found.wrong(("spec", "servers"), "no servers; a Gateway needs one, with its port and hosts")
    names: dict[str, int] = {}
    for index, server in enumerate(servers):
        path = ("spec", "servers", index)
        _server(server, path, found)
        port_name = server["port"]["name"]
        if port_name in names:
            line = found.document.line("spec", "servers", names[port_name], "port", "name")
            message = f"the port's name `{short(port_name)}` stands twice; the first is on line {line}"
            found.wrong((*path, "port", "name"), message)
        names.setdefault(port_name, index)


def _server(server: dict[str, Any], path: Path, found: Findings) -> None:
    port, bind = server["port"], server.get("bind", "")
    if not server["hosts"]:
        found.wrong((*path, "hosts"), 'an empty list where at least one host is expected, such as ["*"]')
    for index, host in enumerate(server["hosts"]):
        _host(host, (*path, "hosts", index), found)
    protocol = port["protocol"].lower()
    if protocol not in PROTOCOLS:
        known = sorted(name.upper() for name in PROTOCOLS)
        hint = did_you_mean(port["protocol"], known)
        message = f"`{short(port['protocol'])}` where one of {listed(known)} is expected{hint}"
        found.wrong((*path, "port", "protocol"), message)
    unix = bind.startswith(UNIX)
    if not unix and not 1 <= port["number"] <= 65535:
        found.wrong((*path, "port", "number"), f"the number {port['number']} where a port from 1 to 65535 is expected")
    if unix and port["number"]:
        found.wrong((*path, "port", "number"), f"the number {port['number']} where 0 is expected beside a Unix socket")
    if not port["name"]:
        found.wrong((*path, "port", "name"), "an empty text where a port's name is expected, such as http")
    if port.get("targetPort"):
        found.wrong((*path, "port", "targetPort"), "a Gateway has no use for targetPort; take it away")
    if bind and not unix and not is_address(bind):
        found.wrong((*path, "bind"), f"`{short(bind)}` where an IP address is expected, such as 127.0.0.1")
    _tls(server.get("tls"), protocol, path, found)


def _host(host: str, path: Path, found: Findings) -> None:
    namespace, slash, name = host.rpartition("/")
    if slash and namespace not in {"*", "."} and not is_label(namespace):
        found.wrong(path, f"`{short(namespace)}` before the `/` where a namespace, `*` or `.` is expected")
    if name == "*" or is_address(name):
        return
    if not is_host(name, star=True) or ("*" in name and not name.startswith("*.")):
        found.wrong(path, f'`{short(host)}` where a host is expected, such as "*", "*.lab.test" or shop.lab.test')
    elif "." not in name:
        found.wrong(path, f"`{short(host)}` is a short name; a Gateway takes full ones, such as shop.lab.test, or `*`")


def _tls(tls: dict[str, Any] | None, protocol: str, path: Path, found: Findings) -> None:
    if tls is None:
        if protocol in TLS:
            message = f"is missing; a server of {protocol.upper()} needs one, and HTTP is what goes without"
            found.wrong((*path, "tls"), message)
    elif protocol in HTTP:
        if tls.get("mode", "PASSTHROUGH") != "PASSTHROUGH" or set(tls) & {
            "caCertificates",
            "privateKey",
            "serverCertificate",
        }:
            found.wrong((*path, "tls"), f"tls beside the protocol {protocol.upper()}, which is plain text; use HTTPS")
    elif protocol in PROTOCOLS - TLS:
        found.wrong((*path, "tls"), f"tls beside the protocol {protocol.upper()}; it goes with HTTPS or TLS")
