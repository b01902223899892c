"""Resolution of a configuration: its services, DestinationRules, Gateways and delegates, each by its full name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labstack.istio.model.configs import Config, Configs
from labstack.istio.model.destination_rules import DestinationRules
from labstack.istio.model.services import Services


@dataclass(frozen=True)
class Model:
    """A configuration with resolved names, as istiod's PushContext.

    Attributes
    ----------
    configs : Configs
        The objects of the configuration.
    services : Services
        The services that its ServiceEntries define.
    rules : DestinationRules
        The DestinationRules, by the hosts to which they apply.
    gateways : mapping
        The Gateways by ``namespace/name``.
    delegates : mapping
        The VirtualServices without hosts by ``namespace/name``. Another VirtualService can delegate a route to them.
    """

    configs: Configs
    services: Services
    rules: DestinationRules
    gateways: Mapping[str, Config]
    delegates: Mapping[str, Config]


def resolve(configs: Configs) -> Model:
    """Return the model of a configuration."""
    return Model(
        configs=configs,
        services=Services(configs.service_entries),
        rules=DestinationRules(configs.destination_rules),
        gateways={config.full_name: config for config in configs.gateways},
        delegates={config.full_name: config for config in configs.virtual_services if not config.spec.get("hosts")},
    )
