"""Traffic policies: the parts of a DestinationRule that apply to one port of one subset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labstack.istio.model.destination_rules import Rule

Policy = Mapping[str, Any]

PARTS = ("connectionPool", "outlierDetection", "loadBalancer")


def _for_port(policy: Policy, port: int) -> tuple[Policy, bool]:
    """Return a policy's settings for a port, and whether they are port-level settings.

    Port-level settings replace the settings for all ports as a whole. Fields that they omit get Istio's default.
    """
    for settings in policy.get("portLevelSettings", []):
        if settings.get("port", {}).get("number", 0) == port and "port" in settings:
            return {part: settings[part] for part in PARTS if part in settings}, True
    return policy, False


def policy_for(rule: Rule | None, port: int, subset: Mapping[str, Any] | None = None) -> Policy:
    """Return the policy for a port of a service or of one of its subsets.

    A subset's policy overrides the rule's policy part by part. Its port-level settings override it as a whole.
    """
    if rule is None:
        return {}
    whole = _for_port(rule.policy, port)[0] if rule.policy is not None else None
    own = subset.get("trafficPolicy") if subset is not None else None
    if own is None:
        return whole or {}
    own, of_port = _for_port(own, port)
    if whole is None:
        return own
    if of_port:
        return {part: own[part] for part in PARTS if part in own}
    return {part: own.get(part, whole.get(part)) for part in PARTS if part in own or part in whole}


def hash_for(rule: Rule | None, destination: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the consistent hash for a route's destination, or None.

    The subset takes precedence over the rule. In each of them, port-level settings take precedence.
    """
    if rule is None:
        return None
    subset = rule.subset(destination.get("subset", ""))
    own = (subset or {}).get("trafficPolicy", {})
    whole = rule.policy or {}
    port = destination.get("port", {}).get("number", 0) if "port" in destination else None
    found = (_port_hash(own, port), _hash(own), _port_hash(whole, port), _hash(whole))
    return next((each for each in found if each is not None), None)


def _hash(policy: Policy) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = policy.get("loadBalancer", {}).get("consistentHash")
    return found


def _port_hash(policy: Policy, port: int | None) -> Mapping[str, Any] | None:
    for settings in policy.get("portLevelSettings", []):
        if settings.get("port", {}).get("number", 0) == port:
            return _hash(settings)
    return None
