"""DestinationRules: selection of the rule for a service, and merging of several rules for one host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from labstack.istio.model.configs import Config
from labstack.istio.model.hosts import HostMap, full_name
from labstack.istio.model.proxy import NAMESPACE, ROOT_NAMESPACE
from labstack.istio.model.services import ServiceHost


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


class DestinationRules:
    """All DestinationRules by namespace and full host name.

    Parameters
    ----------
    configs : iterable of Config
        DestinationRules in order of precedence.
    """

    def __init__(self, configs: Iterable[Config]) -> None:
        self._visible: dict[str, HostMap[list[Config]]] = {}
        self._exported: dict[str, HostMap[list[Config]]] = {}
        for config in configs:
            export_to, host = config.export_to(), host_of(config)
            is_exported = len(export_to) != 1 or not export_to & {".", config.namespace}
            for rules, belongs in ((self._visible, config.visible_to(NAMESPACE)), (self._exported, is_exported)):
                if belongs:
                    rules.setdefault(config.namespace, HostMap()).setdefault(host, []).append(config)

    def rule_for(self, service: ServiceHost) -> Rule | None:
        """Return the rule for the gateway's requests to a service, or None.

        The gateway's own namespace takes precedence, then that of the service, then the root namespace. In each, the
        most specific host decides, and of several rules for it the last one that can't be merged with an earlier one.
        """
        if found := _most_specific(self._visible, NAMESPACE, service.host):
            return _merged(found)[-1]
        for namespace in (service.namespace, ROOT_NAMESPACE):
            # An exported rule hides those for less specific hosts, even if the gateway does not see it.
            rules = _merged(_most_specific(self._exported, namespace, service.host))
            visible = [rule for rule in rules if rule.config.visible_to(NAMESPACE)]
            if visible:
                return visible[-1]
        return None

    def visible_for(self, host: str, namespaces: Iterable[str]) -> list[Config]:
        """Return the rules that can define subsets of a full host name whose services are in `namespaces`.

        The namespaces are searched as in `rule_for`, but the result has all rules that the gateway sees for the most
        specific host, also those that istiod would not merge.
        """
        found = (_most_specific(self._visible, each, host) for each in (NAMESPACE, *namespaces, ROOT_NAMESPACE))
        return next((rules for rules in found if rules), [])

    def beside(self, config: Config) -> list[Config]:
        """Return the visible rules for the same host in the same namespace as `config`."""
        return self._visible.get(config.namespace, HostMap()).get(host_of(config), [])


def host_of(config: Config) -> str:
    """Return the full host name of a DestinationRule."""
    return full_name(config.spec.get("host", ""), config.namespace)


def subset_names(configs: Iterable[Config]) -> list[str]:
    """Return the names of all subsets of DestinationRules, without duplicates."""
    subsets = (subset for config in configs for subset in config.spec.get("subsets", []))
    return list(dict.fromkeys(subset["name"] for subset in subsets if "name" in subset))


def _most_specific(rules: Mapping[str, HostMap[list[Config]]], namespace: str, host: str) -> list[Config]:
    return rules[namespace].most_specific(host) or [] if namespace in rules else []


def _merged(configs: Iterable[Config]) -> list[Rule]:
    """Return the rules for one host in one namespace, merged where the exportTo is the same or wider."""
    result: list[Rule] = []
    for config in configs:
        new = Rule(config, config.spec.get("trafficPolicy"), tuple(config.spec.get("subsets", [])))
        apart = True
        for index, old in enumerate(result):
            theirs, ours = old.config.export_to(), config.export_to()
            if ours == theirs or (theirs and ours >= theirs):
                result[index] = _merge(old, new)
                apart = False
            else:
                apart = True
        if apart:
            result.append(new)
    return result


def _merge(old: Rule, new: Rule) -> Rule:
    names = {subset.get("name") for subset in old.subsets}
    fresh = tuple(subset for subset in new.subsets if subset.get("name") not in names)
    return replace(old, policy=new.policy if old.policy is None else old.policy, subsets=old.subsets + fresh)
