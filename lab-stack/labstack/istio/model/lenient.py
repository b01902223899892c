"""Reading of documents for checks, also of those that violate their schema.

The checks resolve every readable field, so that one typo is not reported as ten broken references. A document with an
error elsewhere still defines its host. An unreadable value is left out. The translator instead rejects documents that
it can't read as a whole (`labstack.istio.translate.reading`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labstack.istio.documents import Document
from labstack.istio.model.configs import Config, Configs, by_kind

Spec = dict[str, Any]


def read_configs(documents: Iterable[Document]) -> Configs:
    """Return the objects of documents, each kind in the order given. Documents of other kinds are left out."""
    specs = [(document, KINDS[document.kind](document.spec)) for document in documents if document.kind in KINDS]
    return by_kind(Config(document, spec) for document, spec in specs)


def texts(value: Any) -> list[str]:
    """Return the strings in a list, or nothing if `value` is not a list."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _mappings(value: Any) -> list[Spec]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _mapping(value: Any) -> Spec:
    return value if isinstance(value, dict) else {}


def _service_entry(spec: Spec) -> Spec:
    ports = [port for port in _mappings(spec.get("ports")) if isinstance(port.get("number"), int)]
    return {
        "hosts": texts(spec.get("hosts")),
        "ports": [{"number": port["number"], "name": str(port.get("name", ""))} for port in ports],
        "endpoints": [{"labels": _mapping(each.get("labels"))} for each in _mappings(spec.get("endpoints"))],
        "exportTo": texts(spec.get("exportTo")),
    }


def _destination_rule(spec: Spec) -> Spec:
    host = spec.get("host")
    subsets = [subset for subset in _mappings(spec.get("subsets")) if isinstance(subset.get("name"), str)]
    return {
        **spec,
        "host": host if isinstance(host, str) else "",
        "subsets": subsets,
        "exportTo": texts(spec.get("exportTo")),
    }


def _gateway(spec: Spec) -> Spec:
    servers = _mappings(spec.get("servers"))
    return {
        **spec,
        "servers": [
            {**server, "port": _mapping(server.get("port")), "hosts": texts(server.get("hosts"))} for server in servers
        ],
    }


def _virtual_service(spec: Spec) -> Spec:
    return spec  # other documents refer only to its name, and to whether it has hosts


KINDS = {
    "DestinationRule": _destination_rule,
    "Gateway": _gateway,
    "ServiceEntry": _service_entry,
    "VirtualService": _virtual_service,
}
