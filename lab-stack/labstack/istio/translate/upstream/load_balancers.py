"""Load balancing: selection of an endpoint of a cluster for a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labstack.istio.envoy_api import cluster_v3
from labstack.istio.model.gateways import LocalityName
from labstack.istio.translate.upstream.endpoints import fail_over

Cluster = cluster_v3.Cluster

RING_SIZE = 1024


def apply_load_balancer(cluster: cluster_v3.Cluster, settings: Mapping[str, Any], here: LocalityName) -> None:
    """Set a cluster's load balancing. Istio's default is the endpoint with the fewest active requests.

    `here` is the gateway's locality.
    """
    if cluster.HasField("load_assignment") and is_ordered(cluster, settings):
        fail_over(cluster.load_assignment, here)
    simple = settings.get("simple", "UNSPECIFIED")
    if cluster.type == Cluster.ORIGINAL_DST or simple == "PASSTHROUGH":
        cluster.type = Cluster.ORIGINAL_DST
        cluster.lb_policy = Cluster.CLUSTER_PROVIDED
        cluster.ClearField("load_assignment")
        return
    if simple == "RANDOM":
        cluster.lb_policy = Cluster.RANDOM
    elif simple == "ROUND_ROBIN":
        cluster.lb_policy = Cluster.ROUND_ROBIN
        _warm_up(cluster.round_robin_lb_config, settings)
    else:
        cluster.lb_policy = Cluster.LEAST_REQUEST
        _warm_up(cluster.least_request_lb_config, settings)
    if "consistentHash" in settings:
        _hash(cluster, settings["consistentHash"])


def is_ordered(cluster: cluster_v3.Cluster, settings: Mapping[str, Any]) -> bool:
    """Report whether nearer endpoints take precedence, which is the default.

    Without outlier detection Envoy would not detect that endpoints fail, so all endpoints are then equal.
    """
    return cluster.HasField("outlier_detection") and settings.get("localityLbSetting", {}).get("enabled", True)


def _warm_up(
    config: cluster_v3.Cluster.RoundRobinLbConfig | cluster_v3.Cluster.LeastRequestLbConfig,
    settings: Mapping[str, Any],
) -> None:
    """Increase a new endpoint's share of requests gradually. The newer of the two settings takes precedence."""
    if "warmup" in settings:
        warmup = settings["warmup"]
        if "duration" in warmup:
            config.slow_start_config.slow_start_window.CopyFrom(warmup["duration"])
        config.slow_start_config.aggression.default_value = warmup.get("aggression", 1)
        config.slow_start_config.aggression.runtime_key = "("
        config.slow_start_config.min_weight_percent.value = warmup.get("minimumPercent", 10)
    elif "warmupDurationSecs" in settings:
        config.slow_start_config.slow_start_window.CopyFrom(settings["warmupDurationSecs"])


def _hash(cluster: cluster_v3.Cluster, settings: Mapping[str, Any]) -> None:
    if "maglev" in settings:
        cluster.lb_policy = Cluster.MAGLEV
        if size := settings["maglev"].get("tableSize", 0):
            cluster.maglev_lb_config.table_size.value = size
    elif "ringHash" in settings:
        cluster.lb_policy = Cluster.RING_HASH
        if size := settings["ringHash"].get("minimumRingSize", 0):
            cluster.ring_hash_lb_config.minimum_ring_size.value = size
    else:
        cluster.lb_policy = Cluster.RING_HASH
        cluster.ring_hash_lb_config.minimum_ring_size.value = settings.get("minimumRingSize") or RING_SIZE
