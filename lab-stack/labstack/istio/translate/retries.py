"""Retries: their conditions, number and endpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from labstack.istio.envoy_api import previous_hosts_v3, previous_priorities_v3, route_v3

Policy = route_v3.RetryPolicy

# Istio's defaults. They retry only requests that were certainly not served, so not a 503 from the service itself.
ATTEMPTS = 2
RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
HOST_ATTEMPTS = 5
# The status codes for which Go's net/http has a text. istiod uses them to distinguish codes from conditions.
STATUS_CODES = frozenset(
    (
        *(*range(100, 104), *range(200, 209), 226, *range(300, 306), 307, 308),
        *(*range(400, 419), *range(421, 427), 428, 429, 431, 451, *range(500, 509), 510, 511),
    )
)


def retry_policy(retries: Mapping[str, Any] | None, *, hashed: bool) -> route_v3.RetryPolicy | None:
    """Return Envoy's retry policy, or None if ``attempts: 0`` disables retries.

    Parameters
    ----------
    retries : mapping or None
        The route's settings; None means Istio's defaults.
    hashed : bool
        Whether a consistent hash selects the endpoint, so that a retry goes to the same endpoint.
    """
    attempts = ATTEMPTS if retries is None else retries.get("attempts", 0)
    retries = retries or {}
    if attempts <= 0:
        return None
    policy = Policy(num_retries={"value": attempts}, retry_on=RETRY_ON, host_selection_retry_max_attempts=HOST_ATTEMPTS)
    if retries.get("retryOn"):
        policy.retry_on, codes = _conditions(retries["retryOn"])
        policy.retriable_status_codes.extend(codes)
    if "perTryTimeout" in retries:
        policy.per_try_timeout.CopyFrom(retries["perTryTimeout"])
    if retries.get("retryIgnorePreviousHosts", not hashed):
        predicate = policy.retry_host_predicate.add(name="envoy.retry_host_predicates.previous_hosts")
        predicate.typed_config.Pack(previous_hosts_v3.PreviousHostsPredicate())
    if retries.get("retryRemoteLocalities"):
        policy.retry_priority.name = "envoy.retry_priorities.previous_priorities"
        config = previous_priorities_v3.PreviousPrioritiesConfig(update_frequency=2)
        policy.retry_priority.typed_config.Pack(config)
    if "backoff" in retries:
        policy.retry_back_off.base_interval.CopyFrom(retries["backoff"])
    return policy


def _conditions(retry_on: str) -> tuple[str, list[int]]:
    """Split conditions from status codes, as Envoy expects. Codes need a condition that enables them."""
    conditions, codes = [], []
    for part in filter(None, (part.strip() for part in retry_on.split(","))):
        if re.fullmatch(r"[+-]?[0-9]+", part) and int(part) in STATUS_CODES:
            codes.append(int(part))
        else:
            conditions.append(part)
    text = ",".join(conditions)
    if codes and "retriable-status-codes" not in text:
        text += ",retriable-status-codes"
    return text, codes
