"""VirtualServices: their hosts, the gateways that they are bound to, and the destinations of their routes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labstack.istio.model.configs import Config, Path
from labstack.istio.model.hosts import full_name, gateway_name
from labstack.istio.model.proxy import NAMESPACE


def hosts_of(config: Config) -> list[str]:
    """Return the full host names of a VirtualService."""
    return [full_name(host, config.namespace) for host in config.spec.get("hosts", [])]


def gateways_of(config: Config) -> list[str]:
    """Return the gateways of a VirtualService. Without any, it applies only to sidecars."""
    return [gateway_name(each, config.namespace) for each in config.spec.get("gateways", [])] or ["mesh"]


def bound_to(configs: Iterable[Config], gateway: str) -> list[Config]:
    """Return the VirtualServices of a gateway that its namespace sees. Those exported only to it come first.

    A VirtualService that names the gateway several times is returned as often.
    """
    visible = [config for config in configs if config.visible_to(NAMESPACE)]
    bound = [config for config in visible for name in gateways_of(config) if name == gateway]
    return sorted(bound, key=lambda config: config.export_rank(NAMESPACE))


def destinations_of(config: Config) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield every destination of a VirtualService with its path below the spec."""
    for kind in ("http", "tls", "tcp"):
        for number, route in enumerate(config.spec.get(kind, [])):
            path: Path = (kind, number)
            for index, each in enumerate(route.get("route", [])):
                if "destination" in each:
                    yield (*path, "route", index, "destination"), each["destination"]
            if "mirror" in route:
                yield (*path, "mirror"), route["mirror"]
            for index, each in enumerate(route.get("mirrors", [])):
                if "destination" in each:
                    yield (*path, "mirrors", index, "destination"), each["destination"]
