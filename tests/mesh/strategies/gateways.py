"""Strategies for several Gateways whose servers share ports, bind addresses and hosts."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.mesh.strategies.words import JSON, document, given, sometimes

PROTOCOLS = ("HTTP", "HTTP", "HTTP", "http", "HTTP2", "GRPC", "GRPC-Web")
BINDS = (None, None, None, "127.0.0.1", "127.0.0.1", "127.0.0.2", "::1")
HOSTS = (
    "*",
    "*.test",
    "a.test",
    "b.test",
    "*/a.test",
    "./*",
    "./b.test",
    "B.Test",
    "default/*.test",
    "shop/*",
    "order.default.svc.cluster.local",
)
SELECTORS = (
    {"istio": "ingressgateway"},
    {"istio": "ingressgateway"},
    {"istio": "ingressgateway"},
    None,
    {"istio": "egress"},
)


@st.composite
def _server(draw: st.DrawFn, name: str) -> JSON:
    hosts = draw(st.one_of(st.just(["*"]), st.lists(st.sampled_from(HOSTS), min_size=1, max_size=3), st.just(["*/*"])))
    return given(
        {
            "port": {
                "number": draw(st.sampled_from((80, 8080, 8080, 18080))),
                "name": name,
                "protocol": draw(st.sampled_from(PROTOCOLS)),
            },
            "bind": draw(st.sampled_from(BINDS)),
            "hosts": hosts,
            "name": draw(sometimes(st.just(f"server-{name}"))),
        }
    )


@st.composite
def gateways(draw: st.DrawFn) -> list[JSON]:
    """Return one to three Gateways, named gw-a, gw-b and gw-c."""
    result = []
    for name in ("gw-a", "gw-b", "gw-c")[: draw(st.integers(1, 3))]:
        servers = [draw(_server(f"http-{number}")) for number in range(draw(st.integers(1, 3)))]
        spec = given({"selector": draw(st.sampled_from(SELECTORS)), "servers": servers})
        namespace = draw(st.sampled_from(("default", "default", "shop"))) if name != "gw-a" else "default"
        result.append(document("Gateway", name, namespace, spec))
    return result
