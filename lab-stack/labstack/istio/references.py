"""Checks of references between documents (hosts, ports, subsets, gateways) and of duplicate names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from labstack.istio.documents import Document
from labstack.istio.errors import Problem
from labstack.istio.registry import (
    GATEWAY_NAMESPACE,
    ROOT_NAMESPACE,
    Registry,
    Service,
    at_gateway,
    mappings,
    subsets,
    texts,
)
from labstack.istio.rules.findings import Findings, Path
from labstack.istio.rules.names import Hosts, full, is_address
from labstack.istio.words import did_you_mean, listed, short

Target = tuple[dict[str, Any], Path]
GATEWAY_LABELS = {"istio": "ingressgateway"}  # the labels of the lab's gateway


def check_references(document: Document, registry: Registry) -> Findings:
    """Check the references of a document that conforms to its schema, and return the findings."""
    found = Findings(document)
    check: dict[str, Callable[[Findings, Registry], None]] = {
        "DestinationRule": _destination_rule,
        "Gateway": _gateway,
        "ServiceEntry": _service_entry,
        "VirtualService": _virtual_service,
    }
    check[document.kind](found, registry)
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


def targets(spec: dict[str, Any]) -> Iterator[Target]:
    """Yield each destination of a VirtualService with its path."""
    for kind in ("http", "tls", "tcp"):
        for index, route in enumerate(spec.get(kind, [])):
            path: Path = ("spec", kind, index)
            for number, part in enumerate(route.get("route", [])):
                yield part["destination"], (*path, "route", number, "destination")
            if "mirror" in route:
                yield route["mirror"], (*path, "mirror")
            for number, mirror in enumerate(route.get("mirrors", [])):
                yield mirror["destination"], (*path, "mirrors", number, "destination")


def _virtual_service(found: Findings, registry: Registry) -> None:
    spec = found.document.spec
    for index, name in enumerate(spec.get("gateways", [])):
        _gateway_name(name, ("spec", "gateways", index), found, registry)
    for index, route in enumerate(spec.get("http", [])):
        for number, match in enumerate(route.get("match", [])):
            for position, name in enumerate(match.get("gateways", [])):
                path: Path = ("spec", "http", index, "match", number, "gateways", position)
                _gateway_name(name, path, found, registry)
        delegate = route.get("delegate")
        if delegate and delegate.get("name"):
            key = (delegate.get("namespace") or found.document.namespace, delegate["name"])
            if key not in registry.delegates:
                message = (
                    f"the VirtualService `{short('/'.join(key))}` does not exist, or has hosts and can't be a delegate"
                )
                found.add_problem(("spec", "http", index, "delegate", "name"), message)
    for target, path in targets(spec):
        _destination(target, path, found, registry)
    _unserved_hosts(found, registry)


def _destination(target: dict[str, Any], path: Path, found: Findings, registry: Registry) -> None:
    host = full(target["host"], found.document.namespace)
    services = registry.service(host)
    if not services:
        if not registry.unsure_of_hosts:
            found.add_problem((*path, "host"), _unknown_host(target["host"], host, found, registry))
        return
    if not any(at_gateway(service.document) for service in services):
        entry = services[0].document
        spaces = listed(entry.spec["exportTo"])
        what = f"the ServiceEntry `{entry.name}` of the host `{short(target['host'])}`"
        message = f"{what} is exported only to {spaces}, not to the gateway"
        found.add_problem((*path, "host"), message)
        return
    ports = {number: name for service in services for number, name in service.ports.items()}
    number = target.get("port", {}).get("number")
    if number is None and len(ports) > 1:
        which = f"{{number: {min(ports)}}}"
        message = f"is missing; `{short(target['host'])}` has the ports {_numbers(ports)}; select one, such as {which}"
        found.add_problem((*path, "port"), message)
    elif number is not None and ports and number not in ports:
        message = f"`{short(target['host'])}` has no port {number}; it has {_numbers(ports)}"
        found.add_problem((*path, "port", "number"), message)
    if target.get("subset"):
        _subset(target, host, path, found, registry)


def _subset(target: dict[str, Any], host: str, path: Path, found: Findings, registry: Registry) -> None:
    rules = registry.rules_for(host)
    known = list(dict.fromkeys(name for name, *_ in subsets(rules)))
    if target["subset"] in known or registry.unsure_of_subsets(host):
        return
    shown, subset = short(target["host"]), short(target["subset"])
    if not rules:
        message = f"`{subset}`: no DestinationRule defines subsets of `{shown}`; add one, or remove the subset"
    elif not known:
        message = f"`{subset}`: the DestinationRule `{rules[0].name}` of `{shown}` defines no subsets"
    else:
        hint = did_you_mean(target["subset"], known, 0.5)
        message = f"`{shown}` has no subset `{subset}`{hint}; it has {listed(known)}"
    found.add_problem((*path, "subset"), message)


def _unknown_host(written: str, host: str, found: Findings, registry: Registry) -> str:
    known = registry.shown(found.document.namespace)
    hint = did_you_mean(written, known) or did_you_mean(host, known, 0.8)
    meaning = f" ({host})" if host != written else ""
    there = f"known hosts: {listed(known, 12)}" if known else "there are no hosts"
    return f"no ServiceEntry has the host `{short(written)}`{meaning}{hint}; {there}"


def _gateway_name(name: str, path: Path, found: Findings, registry: Registry) -> None:
    if name == "mesh":
        return
    key = gateway_key(name, found.document.namespace)
    if key in registry.gateways:
        return
    own = found.document.namespace
    known = sorted(short_name if space == own else f"{space}/{short_name}" for space, short_name in registry.gateways)
    there = f"known Gateways: {listed(known, 12)}" if known else "there are no Gateways"
    message = f"there is no Gateway `{short(name)}` in namespace {key[0]}{did_you_mean(name, known, 0.5)}; {there}"
    found.add_problem(path, message)


def gateway_key(name: str, namespace: str) -> tuple[str, str]:
    """Return namespace and name of the Gateway that a VirtualService in `namespace` refers to.

    The forms are ``name``, ``namespace/name``, ``./name`` and the outdated ``name.namespace.svc.cluster.local``.
    """
    space, slash, rest = name.partition("/")
    if slash:
        return (namespace if space == "." else space, rest)
    parts = name.split(".")
    return (parts[1], parts[0]) if len(parts) > 1 else (namespace, name)


def _unserved_hosts(found: Findings, registry: Registry) -> None:
    document = found.document
    keys = [gateway_key(name, document.namespace) for name in document.spec.get("gateways", []) if name != "mesh"]
    gateways = [registry.gateways[key] for key in keys if key in registry.gateways]
    served = Hosts()
    for gateway in gateways:
        for server in mappings(gateway.spec.get("servers")):
            for host in texts(server.get("hosts")):
                if _admits(host, gateway.namespace, document.namespace):
                    served.add(host.rpartition("/")[2])
    known = sorted(served)
    for index, host in enumerate(document.spec.get("hosts", [])):
        if known and served.find(host) is None:
            message = f"none of the gateways of this VirtualService serves `{short(host)}`; they serve {listed(known)}"
            found.add_warning(("spec", "hosts", index), message)


def _admits(host: str, gateway_namespace: str, namespace: str) -> bool:
    space, slash, _ = host.rpartition("/")
    return not slash or space in {"*", namespace} or (space == "." and namespace == gateway_namespace)


def _destination_rule(found: Findings, registry: Registry) -> None:
    document, spec = found.document, found.document.spec
    host = full(spec["host"], document.namespace)
    services = registry.service(host)
    if not services and not is_address(host):
        if not registry.unsure_of_hosts:
            found.add_problem(("spec", "host"), _unknown_host(spec["host"], host, found, registry))
        return
    _second_rule(host, found, registry)
    spaces = {GATEWAY_NAMESPACE, ROOT_NAMESPACE, *(one.document.namespace for one in services)}
    if document.namespace not in spaces:
        message = f"the gateway reads rules for `{short(spec['host'])}` only in the namespaces {listed(sorted(spaces))}"
        found.add_warning(("metadata", "namespace"), message)
    for index, subset in enumerate(spec.get("subsets", [])):
        labels = subset.get("labels") or {}
        if labels and not any(_has(service, labels) for service in services):
            wanted = ", ".join(f"{name}: {value}" for name, value in labels.items())
            message = (
                f"no endpoint of `{short(spec['host'])}` has the labels {short(wanted)}, "
                "so requests to this subset get a 503"
            )
            found.add_warning(("spec", "subsets", index, "labels"), message)
    ports = {number: name for service in services for number, name in service.ports.items()}
    for index, level in enumerate(spec.get("trafficPolicy", {}).get("portLevelSettings", [])):
        number = level.get("port", {}).get("number")
        if ports and number is not None and number not in ports:
            message = f"`{short(spec['host'])}` has no port {number}; it has {_numbers(ports)}"
            found.add_problem(("spec", "trafficPolicy", "portLevelSettings", index, "port", "number"), message)


def _second_rule(host: str, found: Findings, registry: Registry) -> None:
    document = found.document
    first = next(iter(registry.rules.get((document.namespace, host), [])), document)
    if first is document or "workloadSelector" in document.spec or "workloadSelector" in first.spec:
        return
    shown = short(document.spec["host"])
    where = f"the DestinationRule `{first.name}` ({first.file}:{first.line('spec', 'host')})"
    lost = {name for name, *_ in subsets([document])} & {name for name, *_ in subsets([first])}
    if "trafficPolicy" in document.spec and "trafficPolicy" in first.spec:
        message = f"{where} already has a trafficPolicy for `{shown}`; Istio would ignore one of them"
        found.add_problem(("spec", "host"), message)
    elif lost:
        message = (
            f"{where} already defines the subsets {listed(sorted(lost))} of `{shown}`; Istio would ignore one of each"
        )
        found.add_problem(("spec", "host"), message)
    else:
        found.add_warning(("spec", "host"), f"{where} already applies to `{shown}`; Istio merges the two")


def _has(service: Service, labels: dict[str, str]) -> bool:
    if service.labels is None:
        return True
    return any(labels.items() <= endpoint.items() for endpoint in service.labels)


def _service_entry(found: Findings, registry: Registry) -> None:
    for index, host in enumerate(found.document.spec["hosts"]):
        first = registry.services[host][0].document
        if first is not found.document:
            location = f"{first.file}:{first.line('spec', 'hosts')}"
            message = f"the ServiceEntry `{first.name}` ({location}) also defines the host `{short(host)}`"
            found.add_warning(("spec", "hosts", index), message)


def _gateway(found: Findings, registry: Registry) -> None:
    selector = found.document.spec.get("selector") or {}
    if not selector.items() <= GATEWAY_LABELS.items():
        wanted = ", ".join(f"{name}: {value}" for name, value in selector.items())
        message = f"`{short(wanted)}` does not select the lab's gateway, whose label is `istio: ingressgateway`"
        found.add_warning(("spec", "selector"), message)


def _numbers(ports: dict[int, str]) -> str:
    return ", ".join(f"{number} ({name})" if name else str(number) for number, name in sorted(ports.items()))
