"""Broken references: istiod accepts them silently, and requests then fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labstack.istio.errors import Problem
from labstack.istio.model.configs import Config, Path
from labstack.istio.model.destination_rules import host_of
from labstack.istio.model.gateways import labels_of_gateway, selected, servers_of
from labstack.istio.model.hosts import gateway_name, intersection, is_subset, is_wildcard
from labstack.istio.model.resolution import Model
from labstack.istio.model.virtual_services import destinations_of, hosts_of
from labstack.istio.translate.upstream.destinations import Destinations
from labstack.istio.words import did_you_mean


def broken_references(model: Model) -> list[Problem]:
    """Return a warning for each reference that is broken or has no effect."""
    checks = _Checks(model)
    return [problem for each in (checks.gateways(), checks.routes(), checks.rules()) for problem in each]


class _Checks:
    def __init__(self, model: Model) -> None:
        self._model = model
        self._configs = model.configs
        self._seen = model.services.seen
        labels = labels_of_gateway(model.services)
        self._open = {name: config for name, config in model.gateways.items() if selected(config, labels)}

    def gateways(self) -> Iterator[Problem]:
        for config in self._configs.gateways:
            if config.full_name not in self._open:
                message = (
                    "does not select the lab's gateway, whose label is `istio: ingressgateway`, so it opens no port"
                )
                yield config.problem(("selector",), message)

    def routes(self) -> Iterator[Problem]:
        for config in self._configs.virtual_services:
            yield from self._bindings(config)
            for path, destination in destinations_of(config):
                yield from self._destination(config, path, destination)

    def rules(self) -> Iterator[Problem]:
        for config in self._configs.destination_rules:
            host, seen = host_of(config), self._seen
            if host not in seen and not (is_wildcard(host) and any(is_subset(known, host) for known in seen)):
                known = did_you_mean(host, seen)
                yield config.problem(
                    ("host",), f"no ServiceEntry has the host `{host}`, so the rule has no effect{known}"
                )

    def _bindings(self, config: Config) -> Iterator[Problem]:
        """Yield a problem for each gateway of a VirtualService that is missing or has no server for its hosts."""
        if not config.spec.get("gateways"):
            yield config.problem((), "names no gateway, so it applies only to sidecars, and the lab has none")
        for index, written in enumerate(config.spec.get("gateways", [])):
            name = gateway_name(written, config.namespace)
            if name == "mesh":
                continue
            if name not in self._open:
                hint = did_you_mean(name, self._open)
                yield config.problem(("gateways", index), f"no Gateway `{name}` opens a port{hint}")
            elif not self._shares_host(config, self._open[name]):
                message = f"no server of the Gateway `{name}` serves a host of this VirtualService"
                yield config.problem(("gateways", index), message)

    def _shares_host(self, config: Config, gateway: Config) -> bool:
        hosts = hosts_of(config)
        return any(intersection(server.hosts_for(config.namespace), hosts) for server in servers_of(gateway))

    def _destination(self, config: Config, path: Path, destination: Mapping[str, Any]) -> Iterator[Problem]:
        destinations = Destinations(self._model, config.namespace, 0)
        host, service = destinations.host(destination), destinations.service(destination)
        if service is None:
            known = did_you_mean(host, self._seen)
            yield config.problem((*path, "host"), f"no ServiceEntry has the host `{host}`{known}")
            return
        numbers = [port.number for port in service.ports]
        if "port" in destination and destination["port"].get("number", 0) not in numbers:
            message = (
                f"`{host}` has no port {destination['port'].get('number', 0)}; it has {', '.join(map(str, numbers))}"
            )
            yield config.problem((*path, "port"), message)
        if "port" not in destination and len(numbers) > 1:
            yield config.problem(
                path, f"`{host}` has several ports; without `port`, the port number of the gateway is used"
            )
        name = destination.get("subset", "")
        rule = self._model.rules.rule_for(service)
        if name and (rule is None or rule.subset(name) is None):
            names = [each.get("name", "") for each in rule.subsets] if rule is not None else []
            message = f"no DestinationRule has a subset `{name}` of `{host}`{did_you_mean(name, names)}"
            yield config.problem((*path, "subset"), message)
