"""CORS: the origins whose pages a browser allows to call the service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labstack.istio.envoy_api import cors_v3
from labstack.istio.translate.faults import whole_percent
from labstack.istio.translate.matches import string_matcher


def cors_policy(policy: Mapping[str, Any]) -> cors_v3.CorsPolicy:
    """Return Envoy's CORS policy. A preflight without a match is forwarded, unless the policy ignores it."""
    result = cors_v3.CorsPolicy(
        allow_methods=",".join(policy.get("allowMethods", [])),
        allow_headers=",".join(policy.get("allowHeaders", [])),
        expose_headers=",".join(policy.get("exposeHeaders", [])),
        filter_enabled={"default_value": whole_percent(100)},
    )
    result.forward_not_matching_preflights.value = policy.get("unmatchedPreflights") != "IGNORE"
    if policy.get("allowOrigins"):
        matchers = (string_matcher(each) for each in policy["allowOrigins"])
        result.allow_origin_string_match.extend(each for each in matchers if each is not None)
    else:
        for origin in policy.get("allowOrigin", []):
            result.allow_origin_string_match.add(exact=origin)
    if "allowCredentials" in policy:
        result.allow_credentials.value = policy["allowCredentials"]
    if "maxAge" in policy:
        result.max_age = str(policy["maxAge"].seconds)
    return result
