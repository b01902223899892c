"""Istio's objects into Envoy's resources, as istiod 1.29 makes them for the lab's gateway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2

from labstack.mesh.documents import Document
from labstack.mesh.errors import Problem
from labstack.mesh.translate.clusters import black_hole, clusters_of
from labstack.mesh.translate.configs import read_configs
from labstack.mesh.translate.destination_rules import DestinationRules, read_rules
from labstack.mesh.translate.endpoints import load_assignment
from labstack.mesh.translate.gateways import NAMESPACE, merge
from labstack.mesh.translate.listeners import listeners_of
from labstack.mesh.translate.load_balancers import is_locality_aware
from labstack.mesh.translate.policies import policy_for
from labstack.mesh.translate.references import broken_references
from labstack.mesh.translate.resources import Resources
from labstack.mesh.translate.routes import Router
from labstack.mesh.translate.services import Services, read_services


@dataclass
class Translation(Resources):
    """What became of a configuration.

    Attributes
    ----------
    warnings : list of Problem
        What istiod takes, but hardly anyone means, such as a host that no ServiceEntry has.
    """

    warnings: list[Problem] = field(default_factory=list)


def translate(documents: Sequence[Document]) -> Translation:
    """Translate a configuration.

    Parameters
    ----------
    documents : sequence of Document
        All objects of it, from all its files.

    Returns
    -------
    Translation
        Typed messages, each list in the order of names; and warnings.

    Raises
    ------
    Unsupported
        A kind or field that the translator doesn't do; names each, with its line.
    InvalidMesh
        A value that istiod couldn't read either.
    """
    configs = read_configs(documents)
    services = read_services(configs.service_entries, NAMESPACE)
    rules = read_rules(configs.destination_rules)
    merged = merge(configs.gateways, services)
    clusters = _clusters(services, rules)
    return Translation(
        clusters=sorted(clusters, key=lambda each: each.name),
        endpoints=sorted(_endpoints(services, rules, clusters), key=lambda each: each.cluster_name),
        listeners=sorted(listeners_of(merged), key=lambda each: each.name),
        routes=sorted(Router(configs.virtual_services, services, rules).configurations(merged), key=lambda r: r.name),
        warnings=[*configs.warnings, *broken_references(configs, services, rules)],
    )


def _clusters(services: Services, rules: DestinationRules) -> list[cluster_pb2.Cluster]:
    made = [
        cluster
        for service in services.seen.values()
        for cluster in clusters_of(
            service, services.endpoints[service.host, service.namespace], rules.rule_for(service, NAMESPACE)
        )
    ]
    return [*made, black_hole()]


def _endpoints(
    services: Services, rules: DestinationRules, clusters: Sequence[cluster_pb2.Cluster]
) -> list[endpoint_pb2.ClusterLoadAssignment]:
    """Return the endpoints of all clusters that ask for them by name."""
    result = []
    for cluster in clusters:
        if cluster.type != cluster_pb2.Cluster.EDS:
            continue
        _, number, subset_name, host = cluster.name.split("|")
        service = services.seen[host]
        port = next(each for each in service.ports if each.number == int(number))
        rule = rules.rule_for(service, NAMESPACE)
        subset = rule.subset(subset_name) if rule is not None else None
        labels = (subset or {}).get("labels", {}).items()
        chosen = [
            each
            for each in services.endpoints[service.host, service.namespace]
            if each.service_port.name == port.name and each.resolved and labels <= each.labels.items()
        ]
        policy = policy_for(rule, port.number, subset)
        ordered = "outlierDetection" in policy and is_locality_aware(policy.get("loadBalancer", {}))
        result.append(load_assignment(cluster.name, chosen, ordered=ordered))
    return result
