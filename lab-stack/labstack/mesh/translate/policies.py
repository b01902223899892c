"""Traffic policies: which part of a DestinationRule holds for one port of one subset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labstack.mesh.translate.destination_rules import Rule

Policy = Mapping[str, Any]

PARTS = ("connectionPool", "outlierDetection", "loadBalancer")


def _for_port(policy: Policy, port: int) -> tuple[Policy, bool]:
    """Return what a policy says of a port, and whether that stands in its port-level settings.

    Settings for a port replace those for all ports as a whole: what they leave out is Istio's default.
    """
    for settings in policy.get("portLevelSettings", []):
        if settings.get("port", {}).get("number", 0) == port and "port" in settings:
            return {part: settings[part] for part in PARTS if part in settings}, True
    return policy, False


def policy_for(rule: Rule | None, port: int, subset: Mapping[str, Any] | None = None) -> Policy:
    """Return the policy for a port of a service, or of a subset of it.

    A subset's policy overrides that of the rule part by part; its settings for the port do so as a whole.
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
    """Return the consistent hash for a route's destination: the subset's, else the rule's; in each the port's first."""
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
