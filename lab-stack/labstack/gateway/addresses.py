"""The addresses of the lab's gateway and services on this machine, as the mesh needs them.

The configuration in `lab-stack/istio/` is written for a cluster. Only addresses differ here: each service is a
ServiceEntry with the endpoints that the lab assigned to it, and the gateway listens on the lab's own port.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labstack.istio.documents import Document

API_VERSION = "networking.istio.io/v1"
SERVICE_PORT = 8000
"""The port of each service in the mesh configuration. Its endpoints use other ports."""

GATEWAY_PORT = 8080
"""The gateway's port in the configuration, a placeholder for its port on this machine."""


@dataclass(frozen=True)
class ServiceInstance:
    """One running version of a service.

    Parameters
    ----------
    version : str
        Version label, such as ``v1``.
    address : str
        IP address at which the gateway reaches it.
    port : int
        Port at that address.
    """

    version: str
    address: str
    port: int


@dataclass(frozen=True)
class Addresses:
    """The addresses of the gateway and of all services.

    Parameters
    ----------
    gateway_port : int
        Port on which the gateway listens, on its machine or in its container.
    bind : str
        Address on which the gateway listens; empty for all addresses, as in a container.
    instances : mapping
        The instances of each service, by service name.
    """

    gateway_port: int
    bind: str
    instances: Mapping[str, tuple[ServiceInstance, ...]]


def service_entries(addresses: Addresses) -> list[Document]:
    """Return a ServiceEntry for each service."""
    from labstack.istio.documents import Document  # YAML's import, which `lab status` does not need

    return [
        Document(
            "<lab>",
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
    """Return the documents with each Gateway moved to the lab's port and address. The input is not modified."""
    return [_adapted_gateway(document, addresses) if document.kind == "Gateway" else document for document in documents]


def adapted(documents: Iterable[Document], addresses: Addresses) -> list[Document]:
    """Return the documents as istiod or Envoy receives them, moved to this machine.

    Each service without a ServiceEntry among the documents gets one. Every document gets an explicit namespace: a
    cluster assigns ``default`` to a document without one, but istiod assigns none when it reads files.
    """
    adapted_documents = [_in_namespace(document) for document in for_this_machine(documents, addresses)]
    defined = {(document.kind, document.namespace, document.name) for document in adapted_documents}
    entries = [one for one in service_entries(addresses) if (one.kind, one.namespace, one.name) not in defined]
    return [*entries, *adapted_documents]


def _in_namespace(document: Document) -> Document:
    metadata = {**document.data["metadata"], "namespace": document.namespace}
    return replace(document, data={**document.data, "metadata": metadata})


def _adapted_gateway(gateway: Document, addresses: Addresses) -> Document:
    data = copy.deepcopy(gateway.data)
    servers = data.get("spec", {}).get("servers")
    for server in servers if isinstance(servers, list) else ():
        if isinstance(server.get("port"), dict) and server["port"].get("number") == GATEWAY_PORT:
            server["port"]["number"] = addresses.gateway_port
        if addresses.bind and not server.get("bind"):
            server["bind"] = addresses.bind
    return replace(gateway, data=data)
