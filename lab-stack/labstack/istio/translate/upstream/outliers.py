"""Outlier detection: temporary ejection of failing endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labstack.istio.envoy_api import cluster_v3


def apply_outlier_detection(cluster: cluster_v3.Cluster, settings: Mapping[str, Any] | None) -> None:
    """Set a cluster's outlier detection.

    Envoy can also eject endpoints by success rate; Istio disables that. A threshold of 0 disables its check. The
    deprecated `consecutiveErrors` has no effect.
    """
    if settings is None:
        return
    detection = cluster_v3.OutlierDetection()
    detection.enforcing_success_rate.value = 0
    if (errors := settings.get("consecutive5xxErrors")) is not None:
        detection.consecutive_5xx.value = errors
        detection.enforcing_consecutive_5xx.value = 100 if errors else 0
    if (errors := settings.get("consecutiveGatewayErrors")) is not None:
        detection.consecutive_gateway_failure.value = errors
        detection.enforcing_consecutive_gateway_failure.value = 100 if errors else 0
    if "interval" in settings:
        detection.interval.CopyFrom(settings["interval"])
    if "baseEjectionTime" in settings:
        detection.base_ejection_time.CopyFrom(settings["baseEjectionTime"])
    if settings.get("maxEjectionPercent", 0) > 0:
        detection.max_ejection_percent.value = settings["maxEjectionPercent"]
    if settings.get("splitExternalLocalOriginErrors"):
        detection.split_external_local_origin_errors = True
        if errors := settings.get("consecutiveLocalOriginFailures", 0):
            detection.consecutive_local_origin_failure.value = errors
            detection.enforcing_consecutive_local_origin_failure.value = 100
        detection.enforcing_local_origin_success_rate.value = 0
    cluster.outlier_detection.CopyFrom(detection)
    # By default Envoy also uses failing endpoints once half of them fail. Istio disables that unless it is configured.
    if settings.get("minHealthPercent", 0) >= 0:
        cluster.common_lb_config.healthy_panic_threshold.value = settings.get("minHealthPercent", 0)
