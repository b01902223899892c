"""Endpoints: the addresses to which a cluster sends requests."""

from __future__ import annotations

from collections.abc import Iterable

from labstack.istio.envoy_api import core_v3, endpoint_v3
from labstack.istio.model.gateways import LocalityName
from labstack.istio.model.protocols import UNIX
from labstack.istio.model.services import Endpoint

Locality = endpoint_v3.LocalityLbEndpoints


def localities(endpoints: Iterable[Endpoint]) -> list[endpoint_v3.LocalityLbEndpoints]:
    """Return the endpoints grouped by locality, sorted by its name."""
    groups: dict[str, endpoint_v3.LocalityLbEndpoints] = {}
    for each in endpoints:
        group = groups.setdefault(each.locality, Locality(locality=_locality(each.locality)))
        group.lb_endpoints.append(
            endpoint_v3.LbEndpoint(
                endpoint={"address": address_of(each.address, each.port)},
                load_balancing_weight={"value": each.weight},
                metadata={},
            )
        )
        group.load_balancing_weight.value = min(group.load_balancing_weight.value + each.weight, 2**32 - 1)
    return [groups[name] for name in sorted(groups)]


def load_assignment(name: str, endpoints: Iterable[Endpoint]) -> endpoint_v3.ClusterLoadAssignment:
    """Return the load assignment of a cluster."""
    return endpoint_v3.ClusterLoadAssignment(cluster_name=name, endpoints=localities(endpoints))


def fail_over(assignment: endpoint_v3.ClusterLoadAssignment, here: LocalityName) -> None:
    """Set priorities by distance from `here`, without gaps. Envoy uses priority 0 until it fails."""
    distances = [_distance(group.locality, here) for group in assignment.endpoints]
    ranks = {distance: rank for rank, distance in enumerate(sorted(set(distances)))}
    for group, distance in zip(assignment.endpoints, distances, strict=True):
        group.priority = ranks[distance]


def _distance(locality: core_v3.Locality, here: LocalityName) -> int:
    there = (locality.region, locality.zone, locality.sub_zone)
    return next((3 - level for level in range(3) if there[level] != here[level]), 0)


def _locality(text: str) -> core_v3.Locality:
    region, zone, sub_zone = [*text.split("/"), "", ""][:3]
    return core_v3.Locality(region=region, zone=zone, sub_zone=sub_zone)


def address_of(address: str, port: int) -> core_v3.Address:
    """Return an address for Envoy. Without a port, it is the path of a Unix socket."""
    if not port:
        return core_v3.Address(pipe={"path": address.removeprefix(UNIX)})
    return core_v3.Address(socket_address={"address": address, "port_value": port})
