"""Translation of Istio's objects into Envoy's resources, as istiod 1.29 generates them for the lab's gateway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from labstack.istio.control_characters import control_characters
from labstack.istio.documents import Document
from labstack.istio.envoy_api import cluster_v3, endpoint_v3
from labstack.istio.errors import Problem
from labstack.istio.model.gateways import LocalityName, locality_of_gateway, merge
from labstack.istio.model.resolution import Model, resolve
from labstack.istio.model.services import ServiceHost, Services
from labstack.istio.translate.broken_references import broken_references
from labstack.istio.translate.listeners import listeners_of
from labstack.istio.translate.reading.configs import read_configs
from labstack.istio.translate.resources import Resources
from labstack.istio.translate.routes import Router
from labstack.istio.translate.upstream.clusters import NamedCluster, black_hole, clusters_of
from labstack.istio.translate.upstream.endpoints import fail_over, load_assignment
from labstack.istio.translate.upstream.load_balancers import is_ordered
from labstack.istio.translate.upstream.policies import policy_for


@dataclass
class Translation(Resources):
    """Envoy's resources for a configuration.

    Attributes
    ----------
    warnings : list of Problem
        Configuration that istiod accepts but that is probably a mistake, such as a host without a ServiceEntry.
    """

    warnings: list[Problem] = field(default_factory=list)


def translate(documents: Sequence[Document]) -> Translation:
    """Translate a configuration.

    Parameters
    ----------
    documents : sequence of Document
        All objects of the configuration, from all its files.

    Returns
    -------
    Translation
        Typed messages, each list sorted by name, and warnings.

    Raises
    ------
    Unsupported
        The translator doesn't support a kind or field. The error lists each with its line.
    InvalidMesh
        A value is invalid, so that istiod couldn't read it either.
    """
    configs, warnings = read_configs(documents)
    model = resolve(configs)
    services = model.services
    merged = merge(configs.gateways, services)
    here = locality_of_gateway(services)
    made = [cluster for service in services.seen.values() for cluster in _clusters(service, model, here)]
    clusters = [*(each.cluster for each in made), black_hole()]
    endpoints = [_endpoints(each, services, here) for each in made if each.cluster.type == cluster_v3.Cluster.EDS]
    return Translation(
        clusters=sorted(clusters, key=lambda each: each.name),
        endpoints=sorted(endpoints, key=lambda each: each.cluster_name),
        listeners=sorted(listeners_of(merged), key=lambda each: each.name),
        routes=sorted(Router(model).configurations(merged), key=lambda each: each.name),
        warnings=[*warnings, *chain.from_iterable(map(control_characters, documents)), *broken_references(model)],
    )


def _clusters(service: ServiceHost, model: Model, here: LocalityName) -> list[NamedCluster]:
    endpoints = model.services.endpoints[service.host, service.namespace]
    return clusters_of(service, endpoints, model.rules.rule_for(service), here)


def _endpoints(made: NamedCluster, services: Services, here: LocalityName) -> endpoint_v3.ClusterLoadAssignment:
    """Return the endpoints of a cluster that fetches them by its name."""
    labels = (made.subset or {}).get("labels", {}).items()
    chosen = [
        each
        for each in services.endpoints[made.service.host, made.service.namespace]
        if each.service_port.name == made.port.name and each.resolved and labels <= each.labels.items()
    ]
    policy = policy_for(made.rule, made.port.number, made.subset)
    result = load_assignment(made.cluster.name, chosen)
    if is_ordered(made.cluster, policy.get("loadBalancer", {})):
        fail_over(result, here)
    return result
