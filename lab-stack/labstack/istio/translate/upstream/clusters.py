"""Clusters: one for each port of each service, plus one for each subset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labstack.istio.envoy_api import cares_v3, cluster_v3, core_v3, protobuf
from labstack.istio.model.destination_rules import Rule
from labstack.istio.model.gateways import LocalityName
from labstack.istio.model.services import Endpoint, Port, ServiceHost
from labstack.istio.translate.upstream.connection_pools import apply_connection_pool
from labstack.istio.translate.upstream.endpoints import localities
from labstack.istio.translate.upstream.load_balancers import apply_load_balancer
from labstack.istio.translate.upstream.outliers import apply_outlier_detection
from labstack.istio.translate.upstream.policies import policy_for

Cluster = cluster_v3.Cluster

CONNECT_TIMEOUT = protobuf.Duration(seconds=10)
DNS_REFRESH = protobuf.Duration(seconds=60)
DNS_JITTER = protobuf.Duration(nanos=100_000_000)
DNS_QUERIES = 100
TYPES = {"NONE": Cluster.EDS, "STATIC": Cluster.EDS, "DNS": Cluster.STRICT_DNS, "DNS_ROUND_ROBIN": Cluster.LOGICAL_DNS}


@dataclass(frozen=True)
class NamedCluster:
    """A cluster with the objects from which it is generated."""

    cluster: cluster_v3.Cluster
    service: ServiceHost
    port: Port
    rule: Rule | None
    subset: Mapping[str, Any] | None


def cluster_name(host: str, port: int, subset: str = "") -> str:
    """Return Istio's cluster name for a port of a service, or for one of its subsets."""
    return f"outbound|{port}|{subset}|{host}"


def black_hole() -> cluster_v3.Cluster:
    """Return the cluster for requests without a destination."""
    name = "BlackHoleCluster"
    return Cluster(name=name, alt_stat_name=name + ";", type=Cluster.STATIC, connect_timeout=CONNECT_TIMEOUT)


def clusters_of(
    service: ServiceHost, endpoints: list[Endpoint], rule: Rule | None, here: LocalityName
) -> list[NamedCluster]:
    """Return all clusters of a service under its DestinationRule. `here` is the gateway's locality."""
    result = []
    for port in service.ports:
        if port.protocol == "udp":
            continue
        served = [each for each in endpoints if each.service_port.number == port.number]
        whole = _cluster(service, port, served, rule, None, TYPES[service.resolution], here)
        if whole is None:
            continue
        result.append(NamedCluster(whole, service, port, rule, None))
        for subset in rule.subsets if rule else ():
            labels = subset.get("labels", {}).items()
            chosen = [each for each in served if labels <= each.labels.items()]
            # A subset has the service's discovery type, unless either of them uses PASSTHROUGH.
            kind = Cluster.ORIGINAL_DST if _passes_through(subset) else whole.type
            if (cluster := _cluster(service, port, chosen, rule, subset, kind, here)) is not None:
                result.append(NamedCluster(cluster, service, port, rule, subset))
    return result


def _passes_through(subset: Mapping[str, Any]) -> bool:
    policy: Mapping[str, Any] = subset.get("trafficPolicy", {})
    return policy.get("loadBalancer", {}).get("simple") == "PASSTHROUGH"


def _cluster(
    service: ServiceHost,
    port: Port,
    endpoints: list[Endpoint],
    rule: Rule | None,
    subset: Mapping[str, Any] | None,
    kind: int,
    here: LocalityName,
) -> cluster_v3.Cluster | None:
    """Return a cluster, or None if DNS has nothing to resolve."""
    subset_name = (subset or {}).get("name", "")
    name = cluster_name(service.host, port.number, subset_name)
    cluster = Cluster(
        name=name, alt_stat_name=name + ";", type=kind, connect_timeout=CONNECT_TIMEOUT, common_lb_config={}
    )
    if kind in (Cluster.STRICT_DNS, Cluster.LOGICAL_DNS):
        if not endpoints:
            return None
        _resolve(cluster)
        cluster.load_assignment.cluster_name = name
        cluster.load_assignment.endpoints.extend(localities(endpoints))
    if kind == Cluster.ORIGINAL_DST and service.resolution == "NONE" and port.target:
        cluster.original_dst_lb_config.upstream_port_override.value = port.target
    policy = policy_for(rule, port.number, subset)
    apply_connection_pool(cluster, policy, http2=port.speaks_http2)
    apply_outlier_detection(cluster, policy.get("outlierDetection"))
    apply_load_balancer(cluster, policy.get("loadBalancer", {}), here)
    if cluster.type == Cluster.EDS:
        cluster.eds_cluster_config.service_name = name
        cluster.eds_cluster_config.eds_config.CopyFrom(over_ads())
    _describe(cluster, service, rule, subset_name)
    return cluster


def _resolve(cluster: cluster_v3.Cluster) -> None:
    cluster.dns_lookup_family = Cluster.V4_ONLY
    cluster.dns_refresh_rate.CopyFrom(DNS_REFRESH)
    cluster.dns_jitter.CopyFrom(DNS_JITTER)
    cluster.respect_dns_ttl = True
    resolver = cares_v3.CaresDnsResolverConfig(udp_max_queries={"value": DNS_QUERIES})
    cluster.typed_dns_resolver_config.name = "envoy.network.dns_resolver.cares"
    cluster.typed_dns_resolver_config.typed_config.Pack(resolver)


def over_ads() -> core_v3.ConfigSource:
    """Return the source of a named resource: the ADS stream that delivered its name, without a timeout."""
    return core_v3.ConfigSource(
        ads={}, initial_fetch_timeout=protobuf.Duration(), resource_api_version=core_v3.ApiVersion.V3
    )


def _describe(cluster: cluster_v3.Cluster, service: ServiceHost, rule: Rule | None, subset: str) -> None:
    """Record the cluster's origin in its metadata, for readers of Envoy's configuration."""
    notes: dict[str, Any] = {}
    if service.external and not subset:
        notes["external"] = True
    if rule is not None:
        notes["config"] = rule.config.origin
    if subset:
        notes["subset"] = subset
    if notes:
        metadata = protobuf.Struct()
        metadata.update(notes)
        cluster.metadata.filter_metadata["istio"].CopyFrom(metadata)
