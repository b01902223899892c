"""Check that the gateway can listen on the ports of a Gateway. Envoy itself would only log the failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labstack.istio.documents import Document
from labstack.istio.errors import InvalidMesh
from labstack.ports import free as ports


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
        A port is in use. The error lists each such port with its place and the program that uses it.
    """
    if not bound_here:
        return
    held = {port for _, _, port in _servers(before)}
    taken = [
        document.problem(
            ("spec", "servers", number, "port", "number"),
            f"port {port} is taken by {ports.who_listens(port)}; choose another port",
        )
        for document, number, port in _servers(new)
        if port not in held and not ports.is_free(port)
    ]
    if taken:
        raise InvalidMesh(
            "The gateway can't listen on a port that is in use.",
            problems=taken,
            next_step="use a free port, or stop that program",
        )


def _servers(documents: Sequence[Document]) -> Iterator[tuple[Document, int, int]]:
    for document in documents:
        servers = document.spec.get("servers") if document.kind == "Gateway" else None
        for number, server in enumerate(servers if isinstance(servers, list) else ()):
            port = server.get("port", {}).get("number") if isinstance(server, dict) else None
            if isinstance(port, int):
                yield document, number, port
