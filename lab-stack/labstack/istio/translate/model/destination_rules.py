"""DestinationRules: selection of the rule for a service, and merging of several rules for one host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from labstack.istio.translate.model.configs import Config
from labstack.istio.translate.model.hosts import full_name, most_specific
from labstack.istio.translate.model.services import Service

ROOT_NAMESPACE = "istio-system"


@dataclass(frozen=True)
class Rule:
    """One or several merged DestinationRules for the same host and namespace.

    Attributes
    ----------
    config : Config
        The oldest of them, which provides the name and the exportTo.
    policy : dict or None
        The traffic policy of the first that has one.
    subsets : tuple of dict
        The subsets of all of them. Of several with the same name, the first.
    """

    config: Config
    policy: Mapping[str, Any] | None
    subsets: tuple[Mapping[str, Any], ...]

    def subset(self, name: str) -> Mapping[str, Any] | None:
        """Return the subset with that name, or None."""
        return next((each for each in self.subsets if name and each.get("name") == name), None)


RulesByHost = dict[str, list[Rule]]


@dataclass
class DestinationRules:
    """All DestinationRules by namespace and host, with local and exported rules kept apart."""

    local: dict[str, RulesByHost] = field(default_factory=dict)
    exported: dict[str, RulesByHost] = field(default_factory=dict)

    def rule_for(self, service: Service, gateway_namespace: str) -> Rule | None:
        """Return the rule for the gateway's requests to a service, or None.

        The gateway's own namespace takes precedence, then that of the service, then the root namespace.
        """
        if gateway_namespace != ROOT_NAMESPACE:
            found = most_specific(service.host, self.local.get(gateway_namespace, {}))
            if found is not None:
                return found[-1]
        for namespace in (service.namespace, ROOT_NAMESPACE):
            found = most_specific(service.host, self.exported.get(namespace, {})) or []
            visible = [rule for rule in found if _visible(rule.config.export_to(), gateway_namespace)]
            if visible:
                return visible[-1]
        return None


def _visible(export_to: set[str], namespace: str) -> bool:
    return not export_to or "*" in export_to or namespace in export_to


def read_rules(configs: Iterable[Config]) -> DestinationRules:
    """Group DestinationRules, given from oldest to newest, by namespace and host."""
    result = DestinationRules()
    for config in configs:
        namespace, export_to = config.namespace, config.export_to()
        rule = Rule(config, config.spec.get("trafficPolicy"), tuple(config.spec.get("subsets", [])))
        if not export_to or export_to & {"*", ".", namespace}:
            _add(result.local.setdefault(namespace, {}), rule)
        if len(export_to) != 1 or not export_to & {".", namespace}:
            _add(result.exported.setdefault(namespace, {}), rule)
    return result


def _add(by_host: RulesByHost, new: Rule) -> None:
    """Merge a rule into those of its host with the same or a narrower exportTo. Otherwise add it beside them."""
    known = by_host.setdefault(full_name(new.config.spec.get("host", ""), new.config.namespace), [])
    apart = True
    for index, old in enumerate(known):
        theirs, ours = old.config.export_to(), new.config.export_to()
        if ours == theirs or (theirs and ours >= theirs):
            known[index] = _merged(old, new)
            apart = False
        else:
            apart = True
    if apart:
        known.append(new)


def _merged(old: Rule, new: Rule) -> Rule:
    names = {subset.get("name") for subset in old.subsets}
    fresh = tuple(subset for subset in new.subsets if subset.get("name") not in names)
    return replace(old, policy=new.policy if old.policy is None else old.policy, subsets=old.subsets + fresh)
