"""Route configurations: the virtual hosts of each listener, and the merging of VirtualServices that share a host."""

from __future__ import annotations

from dataclasses import dataclass, field

from labstack.istio.envoy_api import route_v3
from labstack.istio.model.configs import Config
from labstack.istio.model.gateways import Merged, Server, labels_of_gateway
from labstack.istio.model.hosts import intersection, specificity
from labstack.istio.model.resolution import Model
from labstack.istio.model.virtual_services import bound_to, hosts_of
from labstack.istio.translate.http_routes import Caller, routes_of
from labstack.istio.translate.matches import is_catch_all
from labstack.istio.translate.upstream.destinations import Destinations

LARGEST_BODY = 2**20


@dataclass
class _Host:
    domains: list[str]
    name: str
    routes: list[route_v3.Route] = field(default_factory=list)


class Router:
    """Builds the routes of the gateway's listeners."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._labels = labels_of_gateway(model.services)

    def configurations(self, merged: Merged) -> list[route_v3.RouteConfiguration]:
        """Return the route configurations of all listeners."""
        return [self._configuration(name, servers) for name, servers in merged.servers.items()]

    def _configuration(self, name: str, servers: list[Server]) -> route_v3.RouteConfiguration:
        hosts = self._hosts(servers)
        # Without a virtual host Envoy would wait. An empty one returns 404.
        virtual = [_virtual_host(host) for host in _collapsed(hosts)] or [
            route_v3.VirtualHost(name=_domain("blackhole", servers[0].port), domains=["*"])
        ]
        return route_v3.RouteConfiguration(
            name=name,
            virtual_hosts=sorted(virtual, key=lambda host: host.name),
            validate_clusters={"value": False},
            ignore_port_in_host_matching=True,
            max_direct_response_body_size_bytes={"value": LARGEST_BODY},
        )

    def _hosts(self, servers: list[Server]) -> dict[str, _Host]:
        """Return the virtual hosts of all servers. A host of several VirtualServices gets the routes of all of them."""
        result: dict[str, _Host] = {}
        made: dict[tuple[str, str, str], list[route_v3.Route]] = {}
        for server in servers:
            for config in bound_to(self._model.configs.virtual_services, server.gateway):
                shared = intersection(server.hosts_for(config.namespace), hosts_of(config))
                if not shared:
                    continue
                key = (server.gateway, config.namespace, config.name)
                if key not in made:
                    made[key] = self._routes(config, server)
                if not made[key]:
                    continue
                for host in (each.lower() for each in shared):
                    known = result.setdefault(host, _Host([host], _domain(host, server.port)))
                    known.routes += made[key]
        return result

    def _routes(self, config: Config, server: Server) -> list[route_v3.Route]:
        caller = Caller(server.gateway, server.port, self._labels)
        destinations = Destinations(self._model, config.namespace, server.port)
        return routes_of(config, caller, destinations)


def _domain(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _collapsed(hosts: dict[str, _Host]) -> list[_Host]:
    """Merge the hosts with the same routes of the same VirtualServices. The most specific host provides the name."""
    result: dict[tuple[int, ...], _Host] = {}
    for name in sorted(hosts, key=specificity):
        host = hosts[name]
        same = result.setdefault(tuple(map(id, host.routes)), host)
        if same is not host:
            same.domains += host.domains
    return list(result.values())


def _virtual_host(host: _Host) -> route_v3.VirtualHost:
    # Catch-all routes go last, so that they hide no route of another VirtualService. Otherwise the order is unchanged.
    return route_v3.VirtualHost(
        name=host.name,
        domains=host.domains,
        routes=sorted(host.routes, key=is_catch_all),
        include_request_attempt_count=True,
    )
