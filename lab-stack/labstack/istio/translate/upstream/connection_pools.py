"""Connection pools: limits on concurrent connections and requests to a cluster, and connection settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labstack.istio.envoy_api import cluster_v3, http_v3

Settings = Mapping[str, Any]

UNLIMITED = 2**32 - 1
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
RETRY_PERCENT, RETRY_CONCURRENCY = 0.2, 3


def apply_connection_pool(cluster: cluster_v3.Cluster, policy: Settings, *, http2: bool) -> None:
    """Set a cluster's limits, timeouts and protocol.

    Parameters
    ----------
    cluster : Cluster
        The cluster to modify.
    policy : mapping
        The traffic policy, of which only ``connectionPool`` and ``retryBudget`` are used.
    http2 : bool
        Whether the port's protocol uses HTTP/2.
    """
    pool = policy.get("connectionPool", {})
    tcp, http = pool.get("tcp", {}), pool.get("http", {})
    if "connectTimeout" in tcp:
        cluster.connect_timeout.CopyFrom(tcp["connectTimeout"])
    _limit(cluster, tcp, http, policy.get("retryBudget"))
    if "tcpKeepalive" in tcp:
        _keep_alive(cluster, tcp["tcpKeepalive"])
    options = _options(tcp, http, http2=http2)
    if options is not None:
        cluster.typed_extension_protocol_options[OPTIONS].Pack(options)


def _limit(cluster: cluster_v3.Cluster, tcp: Settings, http: Settings, budget: Settings | None) -> None:
    """Set the circuit breaker. A limit of 0 means unlimited, as does a missing limit."""
    thresholds = cluster_v3.CircuitBreakers.Thresholds()
    for limit, setting in (
        (thresholds.max_connections, tcp.get("maxConnections", 0)),
        (thresholds.max_pending_requests, http.get("http1MaxPendingRequests", 0)),
        (thresholds.max_requests, http.get("http2MaxRequests", 0)),
        (thresholds.max_retries, http.get("maxRetries", 0)),
    ):
        limit.value = setting if setting > 0 else UNLIMITED
    if budget is not None:
        thresholds.retry_budget.budget_percent.value = budget.get("percent", RETRY_PERCENT)
        thresholds.retry_budget.min_retry_concurrency.value = budget.get("minRetryConcurrency") or RETRY_CONCURRENCY
    cluster.circuit_breakers.thresholds.append(thresholds)


def _keep_alive(cluster: cluster_v3.Cluster, keep_alive: Settings) -> None:
    probes = cluster.upstream_connection_options.tcp_keepalive
    probes.SetInParent()
    if keep_alive.get("probes", 0) > 0:
        probes.keepalive_probes.value = keep_alive["probes"]
    if "time" in keep_alive:
        probes.keepalive_time.value = keep_alive["time"].seconds
    if "interval" in keep_alive:
        probes.keepalive_interval.value = keep_alive["interval"].seconds


def _options(tcp: Settings, http: Settings, *, http2: bool) -> http_v3.HttpProtocolOptions | None:
    """Return the protocol options, or None if Envoy's default HTTP/1.1 is sufficient."""
    options = http_v3.HttpProtocolOptions()
    as_client = http.get("useClientProtocol", False)
    http2 = http2 or (http.get("h2UpgradePolicy") == "UPGRADE" and not as_client)
    idle = http.get("idleTimeout", tcp.get("idleTimeout"))
    duration = tcp.get("maxConnectionDuration")
    requests, streams = http.get("maxRequestsPerConnection", 0), http.get("maxConcurrentStreams", 0)
    common = idle is not None or duration is not None or requests > 0 or streams > 0
    if not (http2 or as_client or common):
        return None
    if common:
        options.common_http_protocol_options.SetInParent()
    if idle is not None:
        options.common_http_protocol_options.idle_timeout.CopyFrom(idle)
    if duration is not None:
        options.common_http_protocol_options.max_connection_duration.CopyFrom(duration)
    if requests > 0:
        options.common_http_protocol_options.max_requests_per_connection.value = requests
    if as_client:
        options.use_downstream_protocol_config.http_protocol_options.SetInParent()
        options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
    elif http2:
        options.explicit_http_config.http2_protocol_options.SetInParent()
        if streams > 0:
            options.explicit_http_config.http2_protocol_options.max_concurrent_streams.value = streams
    else:
        options.explicit_http_config.http_protocol_options.SetInParent()
    return options
