"""Where the lab's programs are on this machine, as the mesh has to know it.

The configuration in `lab-stack/istio/` is written as for a cluster. What differs here are addresses alone: each service
is a ServiceEntry with the endpoints that the lab has given it, and the gateway listens on the lab's own port.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from labstack.mesh.documents import Document

API_VERSION = "networking.istio.io/v1"
SERVICE_PORT = 8000
"""The port of each service, as the mesh knows it; its endpoints have others."""

GATEWAY_PORT = 8080
"""The gateway's port in the configuration, which stands for its port on this machine."""


@dataclass(frozen=True)
class Instance:
    """One running version of a service.

    Parameters
    ----------
    version : str
        Its label, such as ``v1``.
    address : str
        IP address, as the gateway reaches it.
    port : int
        Where it listens there.
    """

    version: str
    address: str
    port: int


@dataclass(frozen=True)
class Addresses:
    """All that the mesh has to know of this machine.

    Parameters
    ----------
    gateway_port : int
        Where the gateway listens, on its own machine or in its container.
    bind : str
        The address that it listens on; empty for every one, as in a container of its own.
    instances : mapping
        The instances of each service, by its name.
    """

    gateway_port: int
    bind: str
    instances: Mapping[str, tuple[Instance, ...]]


def service_entries(addresses: Addresses) -> list[Document]:
    """Return a ServiceEntry for each service."""
    return [
        Document(
            "the lab's own",
            {
                "apiVersion": API_VERSION,
                "kind": "ServiceEntry",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "hosts": [f"{name}.default.svc.cluster.local"],
                    "location": "MESH_INTERNAL",
                    "resolution": "STATIC",
                    "ports": [{"number": SERVICE_PORT, "name": "http", "protocol": "HTTP"}],
                    "endpoints": [
                        {
                            "address": instance.address,
                            "ports": {"http": instance.port},
                            "labels": {"app": name, "version": instance.version},
                        }
                        for instance in instances
                    ],
                },
            },
            {(): 1},
        )
        for name, instances in addresses.instances.items()
    ]


def for_this_machine(documents: Iterable[Document], addresses: Addresses) -> list[Document]:
    """Return the documents with each Gateway moved to the lab's port and address; the given ones stay as they are."""
    return [_moved(document, addresses) if document.kind == "Gateway" else document for document in documents]


def placed(documents: Iterable[Document], addresses: Addresses) -> list[Document]:
    """Return what istiod or Envoy are given: the documents, moved to this machine, with a ServiceEntry for each service
    that has none of its own among them.

    Each has its namespace written out: a cluster gives ``default`` to what names none, and istiod, reading files, none.
    """
    moved = [_in_namespace(document) for document in for_this_machine(documents, addresses)]
    own = {(document.kind, document.namespace, document.name) for document in moved}
    entries = [one for one in service_entries(addresses) if (one.kind, one.namespace, one.name) not in own]
    return [*entries, *moved]


def _in_namespace(document: Document) -> Document:
    metadata = {**document.data["metadata"], "namespace": document.namespace}
    return Document(document.file, {**document.data, "metadata": metadata}, document.lines)


def _moved(gateway: Document, addresses: Addresses) -> Document:
    data = copy.deepcopy(gateway.data)
    servers = data.get("spec", {}).get("servers")
    for server in servers if isinstance(servers, list) else ():
        if isinstance(server.get("port"), dict) and server["port"].get("number") == GATEWAY_PORT:
            server["port"]["number"] = addresses.gateway_port
        if addresses.bind and not server.get("bind"):
            server["bind"] = addresses.bind
    return Document(gateway.file, data, gateway.lines)
