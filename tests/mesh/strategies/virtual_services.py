"""Strategies for VirtualServices: several for one host, on one or more gateways."""

from __future__ import annotations

from hypothesis import strategies as st

from labstack.istio.model.hosts import is_subset
from tests.mesh.strategies.http_routes import http_route
from tests.mesh.strategies.words import JSON, VERSIONS, World, document, export_to, given, sometimes

HOSTS = (
    "*",
    "*",
    "*.test",
    "a.test",
    "b.test",
    "shop.a.test",
    "A.test",
    "order",
    "order.default.svc.cluster.local",
    "10.1.2.3",
)
GATEWAYS = (
    "gw-a",
    "gw-a",
    "default/gw-a",
    "gw-b",
    "shop/gw-b",
    "default/gw-b",
    "gw-c",
    "gw-c.shop.svc.cluster.local",
    "missing",
    "mesh",
)


@st.composite
def _hosts(draw: st.DrawFn) -> list[str]:
    """Return hosts that do not cover each other, as validation requires."""
    result: list[str] = []
    for host in draw(st.lists(st.sampled_from(HOSTS), min_size=1, max_size=3)):
        if not any(is_subset(host, other) or is_subset(other, host) for other in result):
            result.append(host)
    return result


@st.composite
def _spec(draw: st.DrawFn, namespace: str, world: World) -> JSON:
    gateways = draw(sometimes(st.lists(st.sampled_from(GATEWAYS), min_size=1, max_size=2), 1))
    hosts = draw(_hosts())
    if "mesh" in gateways and "*" in hosts:  # a VirtualService for sidecars can't have the host *
        hosts = ["a.test"]
    return given(
        {
            "hosts": hosts,
            "gateways": gateways,
            "http": [draw(http_route(world)) for _ in range(draw(st.integers(1, 4)))],
            "exportTo": draw(sometimes(export_to(namespace), 5)),
        }
    )


@st.composite
def virtual_services(draw: st.DrawFn, world: World) -> list[JSON]:
    """Return VirtualServices."""
    result = []
    for number in range(draw(st.integers(1, 4))):
        namespace = draw(st.sampled_from(("default", "default", "default", "shop")))
        version = draw(st.sampled_from(VERSIONS))
        result.append(
            document("VirtualService", f"virtual-{number}", namespace, draw(_spec(namespace, world)), version)
        )
    return result
