"""Checks of references between documents (hosts, ports, subsets, gateways) and of duplicate names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from labstack.istio.documents import Document
from labstack.istio.errors import Problem
from labstack.istio.model.configs import Config, Path
from labstack.istio.model.destination_rules import host_of, subset_names
from labstack.istio.model.gateways import selected, servers_of
from labstack.istio.model.hosts import HostMap, full_name, gateway_name, overlap, short_name
from labstack.istio.model.lenient import read_configs, texts
from labstack.istio.model.proxy import LABELS, NAMESPACE, ROOT_NAMESPACE
from labstack.istio.model.resolution import resolve
from labstack.istio.model.services import ServiceHost
from labstack.istio.model.virtual_services import destinations_of, gateways_of, hosts_of
from labstack.istio.rules.findings import Findings
from labstack.istio.rules.names import is_address
from labstack.istio.words import did_you_mean, listed, short


class KnownObjects:
    """The objects to which documents can refer.

    If the host or subsets of a document are unreadable, references to them are not reported.

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
        model = resolve(read_configs(documents))
        self.services, self.rules = model.services, model.rules
        self.gateways, self.delegates = model.gateways, model.delegates
        self.unsure_of_hosts = any(one.kind == "ServiceEntry" and not texts(one.spec.get("hosts")) for one in unsound)
        self._unsure = {host_of(config) for config in read_configs(unsound).destination_rules}

    def unsure_of_subsets(self, host: str) -> bool:
        """Report whether an unreadable DestinationRule may define subsets of `host`."""
        return any(not one or overlap(one, host) for one in self._unsure)


def check_references(document: Document, known: KnownObjects) -> Findings:
    """Check the references of a document that conforms to its schema, and return the findings."""
    found = Findings(document)
    check: dict[str, Callable[[Findings, KnownObjects], None]] = {
        "DestinationRule": _destination_rule,
        "Gateway": _gateway,
        "ServiceEntry": _service_entry,
        "VirtualService": _virtual_service,
    }
    check[document.kind](found, known)
    return found


def duplicates(documents: Sequence[Document]) -> list[Problem]:
    """Return a problem for each document with the kind, namespace and name of an earlier one. Istio keeps only one."""
    first: dict[tuple[str, str, str], Document] = {}
    problems = []
    for document in documents:
        key = (document.kind, document.namespace, document.name)
        if key in first:
            other = first[key]
            location = f"{other.file}:{other.line('metadata', 'name')}"
            what = f"{document.kind} `{short(document.name)}` in namespace {document.namespace}"
            message = f"duplicate {what}; the first is at {location}. Istio would silently use only one of them"
            problems.append(document.problem(("metadata", "name"), message))
        first.setdefault(key, document)
    return problems


def _virtual_service(found: Findings, known: KnownObjects) -> None:
    config = Config(found.document, found.document.spec)
    for index, name in enumerate(config.spec.get("gateways", [])):
        _gateway_name(name, ("spec", "gateways", index), found, known)
    for index, route in enumerate(config.spec.get("http", [])):
        for number, match in enumerate(route.get("match", [])):
            for position, name in enumerate(match.get("gateways", [])):
                path: Path = ("spec", "http", index, "match", number, "gateways", position)
                _gateway_name(name, path, found, known)
        delegate = route.get("delegate")
        if delegate and delegate.get("name"):
            delegate_name = f"{delegate.get('namespace') or config.namespace}/{delegate['name']}"
            if delegate_name not in known.delegates:
                message = (
                    f"the VirtualService `{short(delegate_name)}` does not exist, or has hosts and can't be a delegate"
                )
                found.add_problem(("spec", "http", index, "delegate", "name"), message)
    for path, destination in destinations_of(config):
        _destination(destination, ("spec", *path), found, known)
    _unserved_hosts(config, found, known)


def _destination(destination: Mapping[str, Any], path: Path, found: Findings, known: KnownObjects) -> None:
    written = destination["host"]
    host = full_name(written, found.document.namespace)
    services = known.services.matching(host)
    if not services:
        if not known.unsure_of_hosts:
            found.add_problem((*path, "host"), _unknown_host(written, host, found, known))
        return
    if not any(service.config.visible_to(NAMESPACE) for service in services):
        entry = services[0].config
        spaces = listed(entry.spec["exportTo"])
        what = f"the ServiceEntry `{entry.name}` of the host `{short(written)}`"
        message = f"{what} is exported only to {spaces}, not to the gateway"
        found.add_problem((*path, "host"), message)
        return
    ports = _ports(services)
    number = destination.get("port", {}).get("number")
    if number is None and len(ports) > 1:
        which = f"{{number: {min(ports)}}}"
        message = f"is missing; `{short(written)}` has the ports {_numbers(ports)}; select one, such as {which}"
        found.add_problem((*path, "port"), message)
    elif number is not None and ports and number not in ports:
        message = f"`{short(written)}` has no port {number}; it has {_numbers(ports)}"
        found.add_problem((*path, "port", "number"), message)
    if destination.get("subset"):
        _subset(destination, host, services, (*path, "subset"), found, known)


def _subset(
    destination: Mapping[str, Any],
    host: str,
    services: list[ServiceHost],
    path: Path,
    found: Findings,
    known: KnownObjects,
) -> None:
    rules = known.rules.visible_for(host, [service.namespace for service in services])
    subsets = subset_names(rules)
    if destination["subset"] in subsets or known.unsure_of_subsets(host):
        return
    shown, subset = short(destination["host"]), short(destination["subset"])
    if not rules:
        message = f"`{subset}`: no DestinationRule defines subsets of `{shown}`; add one, or remove the subset"
    elif not subsets:
        message = f"`{subset}`: the DestinationRule `{rules[0].name}` of `{shown}` defines no subsets"
    else:
        hint = did_you_mean(destination["subset"], subsets, 0.5)
        message = f"`{shown}` has no subset `{subset}`{hint}; it has {listed(subsets)}"
    found.add_problem(path, message)


def _unknown_host(written: str, host: str, found: Findings, known: KnownObjects) -> str:
    hosts = sorted(short_name(each, found.document.namespace) for each in known.services.by_host)
    hint = did_you_mean(written, hosts) or did_you_mean(host, hosts, 0.8)
    meaning = f" ({host})" if host != written else ""
    there = f"known hosts: {listed(hosts, 12)}" if hosts else "no ServiceEntry defines a host"
    return f"no ServiceEntry has the host `{short(written)}`{meaning}{hint}; {there}"


def _gateway_name(written: str, path: Path, found: Findings, known: KnownObjects) -> None:
    own = found.document.namespace
    name = gateway_name(written, own)
    if name == "mesh" or name in known.gateways:
        return
    names = sorted(each.removeprefix(f"{own}/") for each in known.gateways)
    there = f"known Gateways: {listed(names, 12)}" if names else "no Gateway is defined"
    namespace = name.partition("/")[0]
    hint = did_you_mean(written, names, 0.5)
    message = f"no Gateway has the name `{short(written)}` in namespace {namespace}{hint}; {there}"
    found.add_problem(path, message)


def _unserved_hosts(config: Config, found: Findings, known: KnownObjects) -> None:
    served: HostMap[None] = HostMap()
    for gateway in (known.gateways[name] for name in gateways_of(config) if name in known.gateways):
        for server in servers_of(gateway):
            served.update(dict.fromkeys(server.hosts_for(config.namespace)))
    for index, host in enumerate(hosts_of(config)):
        if served and served.overlapping(host) is None:
            written, hosts = config.spec["hosts"][index], listed(sorted(served))
            meaning = f" ({host})" if host != written else ""
            message = (
                f"none of the gateways of this VirtualService serves `{short(written)}`{meaning}; they serve {hosts}"
            )
            found.add_warning(("spec", "hosts", index), message)


def _destination_rule(found: Findings, known: KnownObjects) -> None:
    document, spec = found.document, found.document.spec
    host = full_name(spec["host"], document.namespace)
    services = known.services.matching(host)
    if not services and not is_address(host):
        if not known.unsure_of_hosts:
            found.add_problem(("spec", "host"), _unknown_host(spec["host"], host, found, known))
        return
    _second_rule(found, known)
    spaces = {NAMESPACE, ROOT_NAMESPACE, *(service.namespace for service in services)}
    if document.namespace not in spaces:
        message = f"the gateway reads rules for `{short(spec['host'])}` only in the namespaces {listed(sorted(spaces))}"
        found.add_warning(("metadata", "namespace"), message)
    for index, subset in enumerate(spec.get("subsets", [])):
        labels = subset.get("labels") or {}
        if labels and not any(service.may_have(labels) for service in services):
            wanted = ", ".join(f"{name}: {value}" for name, value in labels.items())
            message = (
                f"no endpoint of `{short(spec['host'])}` has the labels {short(wanted)}, "
                "so requests to this subset get a 503"
            )
            found.add_warning(("spec", "subsets", index, "labels"), message)
    ports = _ports(services)
    for index, level in enumerate(spec.get("trafficPolicy", {}).get("portLevelSettings", [])):
        number = level.get("port", {}).get("number")
        if ports and number is not None and number not in ports:
            message = f"`{short(spec['host'])}` has no port {number}; it has {_numbers(ports)}"
            found.add_problem(("spec", "trafficPolicy", "portLevelSettings", index, "port", "number"), message)


def _second_rule(found: Findings, known: KnownObjects) -> None:
    config = Config(found.document, found.document.spec)
    first = next(iter(known.rules.beside(config)), config)
    if first.document is config.document or "workloadSelector" in config.spec or "workloadSelector" in first.spec:
        return
    shown = short(config.spec["host"])
    where = f"the DestinationRule `{first.name}` ({first.document.file}:{first.document.line('spec', 'host')})"
    lost = set(subset_names([config])) & set(subset_names([first]))
    if "trafficPolicy" in config.spec and "trafficPolicy" in first.spec:
        message = f"{where} already has a trafficPolicy for `{shown}`; Istio would ignore one of them"
        found.add_problem(("spec", "host"), message)
    elif lost:
        message = (
            f"{where} already defines the subsets {listed(sorted(lost))} of `{shown}`; Istio would ignore one of each"
        )
        found.add_problem(("spec", "host"), message)
    else:
        found.add_warning(("spec", "host"), f"{where} already applies to `{shown}`; Istio merges the two")


def _service_entry(found: Findings, known: KnownObjects) -> None:
    for index, host in enumerate(found.document.spec["hosts"]):
        first = known.services.by_host[host][0].config.document
        if first is not found.document:
            location = f"{first.file}:{first.line('spec', 'hosts')}"
            message = f"the ServiceEntry `{first.name}` ({location}) also defines the host `{short(host)}`"
            found.add_warning(("spec", "hosts", index), message)


def _gateway(found: Findings, known: KnownObjects) -> None:
    config = Config(found.document, found.document.spec)
    if not selected(config, LABELS):
        wanted = ", ".join(f"{name}: {value}" for name, value in config.spec["selector"].items())
        message = f"`{short(wanted)}` does not select the lab's gateway, whose label is `istio: ingressgateway`"
        found.add_warning(("spec", "selector"), message)


def _ports(services: Iterable[ServiceHost]) -> dict[int, str]:
    return {port.number: port.name for service in services for port in service.ports}


def _numbers(ports: dict[int, str]) -> str:
    return ", ".join(f"{number} ({name})" if name else str(number) for number, name in sorted(ports.items()))
