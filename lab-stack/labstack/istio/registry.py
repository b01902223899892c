"""The services, subsets and gateways that a set of documents defines, looked up as Istio does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from labstack.istio.documents import Document
from labstack.istio.rules.names import DOMAIN, Hosts, covers, full

GATEWAY_NAMESPACE = "default"  # the namespace of the lab's gateway, as in its node id
ROOT_NAMESPACE = "istio-system"


@dataclass(frozen=True)
class Service:
    """One host of a ServiceEntry.

    Parameters
    ----------
    host : str
        Host as written in the entry.
    document : Document
        The ServiceEntry.
    ports : dict of int to str
        Number and name of each port.
    labels : list of dict, or None
        The labels of each endpoint; None if they are unknown (DNS without endpoints, a workload selector).
    """

    host: str
    document: Document
    ports: dict[int, str]
    labels: list[dict[str, str]] | None


class Registry:
    """The services, DestinationRules and Gateways of a set of documents.

    The registry uses every readable field, so that one typo is not reported as ten broken references. A document with
    an error elsewhere still defines its host. If its host or subsets are unreadable, references to them are not
    reported.

    Parameters
    ----------
    documents : sequence of Document
        All documents that are, or would be, in force together.
    unsound : sequence of Document, optional
        Those of `documents` that violate their schema.

    Attributes
    ----------
    unsure_of_hosts : bool
        Whether a ServiceEntry in `unsound` has no readable host.
    """

    def __init__(self, documents: Sequence[Document], unsound: Sequence[Document] = ()) -> None:
        self.unsure_of_hosts = any(one.kind == "ServiceEntry" and not texts(one.spec.get("hosts")) for one in unsound)
        rules = [(one.spec.get("host"), one.namespace) for one in unsound if one.kind == "DestinationRule"]
        self._unsure = {full(host, namespace) if isinstance(host, str) else "" for host, namespace in rules}
        self.services: dict[str, list[Service]] = {}
        self.rules: dict[tuple[str, str], list[Document]] = {}
        self.gateways: dict[tuple[str, str], Document] = {}
        self.delegates: set[tuple[str, str]] = set()
        self._service_hosts = Hosts()
        self._rule_hosts: dict[str, Hosts] = {}
        for document in documents:
            self._add(document)

    def _add(self, document: Document) -> None:
        spec, namespace = document.spec, document.namespace
        if document.kind == "ServiceEntry":
            for host in texts(spec.get("hosts")):
                found = Service(host, document, _ports(spec), _labels(spec))
                self.services.setdefault(host, []).append(found)
                self._service_hosts.add(host)
        elif document.kind == "DestinationRule" and isinstance(spec.get("host"), str) and at_gateway(document):
            host = full(spec["host"], namespace)
            self.rules.setdefault((namespace, host), []).append(document)
            self._rule_hosts.setdefault(namespace, Hosts()).add(host)
        elif document.kind == "Gateway":
            self.gateways[namespace, document.name] = document
        elif document.kind == "VirtualService" and not spec.get("hosts"):
            self.delegates.add((namespace, document.name))

    def service(self, host: str) -> list[Service]:
        """Return the services of a full host name: by exact name, otherwise by the most specific wildcard.

        For a host that starts with ``*``, as in a DestinationRule, return all services that it matches.
        """
        if host in self.services:
            return self.services[host]
        if host[:1] == "*":
            return [one for name, ones in self.services.items() if covers(host, name) for one in ones]
        wildcard_host = self._service_hosts.wildcard(host)
        return self.services[wildcard_host] if wildcard_host is not None else []

    def rules_for(self, host: str) -> list[Document]:
        """Return the DestinationRules that the gateway uses for a full host name.

        Istio searches the namespace of the proxy, then that of the service, then the root namespace. It uses all rules
        of the first namespace that has the host or, without an exact match, the most specific wildcard for it.
        """
        services = self.service(host)
        for namespace in (GATEWAY_NAMESPACE, *(one.document.namespace for one in services), ROOT_NAMESPACE):
            if (namespace, host) in self.rules:
                return self.rules[namespace, host]
            wildcard_host = self._rule_hosts.get(namespace, Hosts()).wildcard(host)
            if wildcard_host is not None:
                return self.rules[namespace, wildcard_host]
        return []

    def unsure_of_subsets(self, host: str) -> bool:
        """Report whether an unreadable DestinationRule may define subsets of `host`."""
        return any(not one or covers(one, host) for one in self._unsure)

    def shown(self, namespace: str) -> list[str]:
        """Return the known hosts as a document in `namespace` would write them, in short form where possible."""
        suffix = f".{namespace}.svc.{DOMAIN}"
        return sorted(host.removesuffix(suffix) for host in self.services)


def at_gateway(document: Document) -> bool:
    """Report whether a document is visible to the gateway: its exportTo is empty or has ``*`` or the namespace."""
    spaces = texts(document.spec.get("exportTo"))
    own = document.namespace == GATEWAY_NAMESPACE
    return not spaces or "*" in spaces or GATEWAY_NAMESPACE in spaces or (own and "." in spaces)


def subsets(rules: Iterable[Document]) -> Iterator[tuple[str, dict[str, Any], Document, int]]:
    """Yield the name, content, rule and index of each subset of the DestinationRules."""
    for rule in rules:
        for index, subset in enumerate(mappings(rule.spec.get("subsets"))):
            if isinstance(subset.get("name"), str):
                yield subset["name"], subset, rule, index


def texts(value: Any) -> list[str]:
    """Return the strings in a list, or nothing if `value` is not a list."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def mappings(value: Any) -> list[dict[str, Any]]:
    """Return the mappings in a list, or nothing if `value` is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _ports(spec: dict[str, Any]) -> dict[int, str]:
    ports = mappings(spec.get("ports"))
    return {port["number"]: str(port.get("name", "")) for port in ports if isinstance(port.get("number"), int)}


def _labels(spec: dict[str, Any]) -> list[dict[str, str]] | None:
    endpoints = mappings(spec.get("endpoints"))
    if not endpoints:
        return None
    return [labels if isinstance(labels := endpoint.get("labels"), dict) else {} for endpoint in endpoints]
