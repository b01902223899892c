"""Check the ports and addresses of a Gateway before Envoy opens them. Envoy itself would only log a failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any

from labstack.istio.documents import Document
from labstack.istio.errors import InvalidMesh
from labstack.istio.model.hosts import is_address
from labstack.istio.words import short
from labstack.ports import free as ports


def require_loopback(new: Sequence[Document], *, bound_here: bool) -> None:
    """Reject a Gateway that opens the lab to other machines.

    Parameters
    ----------
    new : sequence of Document
        The documents to apply.
    bound_here : bool
        Whether the gateway listens on this machine, not in a container.

    Raises
    ------
    InvalidMesh
        A server has a ``bind`` address that is not a loopback address. The error lists each with its location.
    """
    if not bound_here:
        return
    exposed = [
        document.problem(
            ("spec", "servers", number, "bind"),
            f"`{short(bind)}` opens the lab to other machines; remove the field, or use 127.0.0.1",
        )
        for document, number, server in _servers(new)
        if isinstance(bind := server.get("bind"), str) and is_address(bind) and not ip_address(bind).is_loopback
    ]
    if exposed:
        raise InvalidMesh(
            "The gateway listens only on this machine.",
            problems=exposed,
            next_step="remove `bind`: the lab then chooses the address",
        )


def require_free_ports(new: Sequence[Document], before: Sequence[Document], *, bound_here: bool) -> None:
    """Reject a Gateway on a port of this machine that another program uses.

    Parameters
    ----------
    new, before : sequence of Document
        The documents to apply and the documents in force, both with the lab's ports.
    bound_here : bool
        Whether the gateway listens on this machine, not in a container.

    Raises
    ------
    InvalidMesh
        A port is in use. The error lists each such port with its location and the program that uses it.
    """
    if not bound_here:
        return
    held = {port for _, _, port in _ports(before)}
    taken = [
        document.problem(
            ("spec", "servers", number, "port", "number"),
            f"port {port} is taken by {ports.who_listens(port)}; choose another port",
        )
        for document, number, port in _ports(new)
        if port not in held and not ports.is_free(port)
    ]
    if taken:
        raise InvalidMesh(
            "The gateway can't listen on a port that is in use.",
            problems=taken,
            next_step="use a free port, or stop that program",
        )


def _ports(documents: Sequence[Document]) -> Iterator[tuple[Document, int, int]]:
    for document, number, server in _servers(documents):
        port = server.get("port", {}).get("number")
        if isinstance(port, int):
            yield document, number, port


def _servers(documents: Sequence[Document]) -> Iterator[tuple[Document, int, dict[str, Any]]]:
    for document in documents:
        servers = document.spec.get("servers") if document.kind == "Gateway" else None
        for number, server in enumerate(servers if isinstance(servers, list) else ()):
            if isinstance(server, dict):
                yield document, number, server
