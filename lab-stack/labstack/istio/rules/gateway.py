"""Istio's rules for a Gateway."""

from __future__ import annotations

from typing import Any

from labstack.istio.model.protocols import HTTP, PROTOCOLS, TLS, UNIX
from labstack.istio.rules.findings import Findings, Path
from labstack.istio.rules.names import is_address, is_host, is_label
from labstack.istio.words import did_you_mean, listed, short


def gateway(spec: dict[str, Any], found: Findings) -> None:
    """Check the spec of a Gateway."""
    name = found.document.name
    if not is_label(name):
        found.add_problem(
            ("metadata", "name"), f"expected a name without dots such as `lab-gateway`, found `{short(name)}`"
        )
    servers = spec.get("servers", [])
    if not servers:
        found.add_problem(("spec", "servers"), "has no servers; a Gateway needs at least one, with a port and hosts")
    names: dict[str, int] = {}
    for index, server in enumerate(servers):
        path = ("spec", "servers", index)
        _server(server, path, found)
        port_name = server["port"]["name"]
        if port_name in names:
            line = found.document.line("spec", "servers", names[port_name], "port", "name")
            message = f"the port name `{short(port_name)}` occurs twice; the first is on line {line}"
            found.add_problem((*path, "port", "name"), message)
        names.setdefault(port_name, index)


def _server(server: dict[str, Any], path: Path, found: Findings) -> None:
    port, bind = server["port"], server.get("bind", "")
    if not server["hosts"]:
        found.add_problem((*path, "hosts"), 'the list is empty; expected at least one host, such as ["*"]')
    for index, host in enumerate(server["hosts"]):
        _host(host, (*path, "hosts", index), found)
    protocol = port["protocol"].lower()
    if protocol not in PROTOCOLS:
        known = sorted(name.upper() for name in PROTOCOLS)
        hint = did_you_mean(port["protocol"], known)
        message = f"expected one of {listed(known)}, found `{short(port['protocol'])}`{hint}"
        found.add_problem((*path, "port", "protocol"), message)
    unix = bind.startswith(UNIX)
    if not unix and not 1 <= port["number"] <= 65535:
        found.add_problem(
            (*path, "port", "number"), f"expected a port from 1 to 65535, found the number {port['number']}"
        )
    if unix and port["number"]:
        found.add_problem((*path, "port", "number"), f"with a Unix socket, expected 0, found {port['number']}")
    if not port["name"]:
        found.add_problem((*path, "port", "name"), "expected a port name such as http, found an empty string")
    if port.get("targetPort"):
        found.add_problem((*path, "port", "targetPort"), "a Gateway does not use targetPort; remove it")
    if bind and not unix and not is_address(bind):
        found.add_problem((*path, "bind"), f"expected an IP address such as 127.0.0.1, found `{short(bind)}`")
    _tls(server.get("tls"), protocol, path, found)


def _host(host: str, path: Path, found: Findings) -> None:
    namespace, slash, name = host.rpartition("/")
    if slash and namespace not in {"*", "."} and not is_label(namespace):
        found.add_problem(path, f"expected a namespace, `*` or `.` before the `/`, found `{short(namespace)}`")
    if name == "*" or is_address(name):
        return
    if not is_host(name, star=True) or ("*" in name and not name.startswith("*.")):
        found.add_problem(path, f'expected a host such as "*", "*.lab.test" or shop.lab.test, found `{short(host)}`')
    elif "." not in name:
        found.add_problem(
            path, f"`{short(host)}` is a short name; a Gateway needs a full name such as shop.lab.test, or `*`"
        )


def _tls(tls: dict[str, Any] | None, protocol: str, path: Path, found: Findings) -> None:
    if tls is None:
        if protocol in TLS:
            message = f"is missing; a server with protocol {protocol.upper()} needs it; for plain text, use HTTP"
            found.add_problem((*path, "tls"), message)
    elif protocol in HTTP:
        if tls.get("mode", "PASSTHROUGH") != "PASSTHROUGH" or set(tls) & {
            "caCertificates",
            "privateKey",
            "serverCertificate",
        }:
            found.add_problem(
                (*path, "tls"), f"the protocol {protocol.upper()} is plain text and does not allow tls; use HTTPS"
            )
    elif protocol in PROTOCOLS - TLS:
        found.add_problem((*path, "tls"), f"the protocol {protocol.upper()} does not allow tls; use HTTPS or TLS")
