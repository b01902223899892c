"""Strategies for ServiceEntries."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.mesh.strategies.words import JSON, PORTS, SERVICES, document, export_to, given, namespaces, sometimes

NAMES = ("http", "web", "grpc", "tcp")
PROTOCOLS = ("HTTP", "HTTP", "HTTP", "http", "HTTP2", "GRPC", "GRPC-Web", "HTTP_PROXY", "TLS", "HTTPS")
ALONE = ("TCP", "MONGO", "REDIS", "MYSQL", "UDP", "")
LOCALITIES = ("eu", "eu/north", "eu/north/rack1", "us", "us/west")
LABELS = st.fixed_dictionaries(
    {"version": st.sampled_from(("v1", "v2"))},
    optional={
        "app": st.sampled_from(("order", "payment")),
        "topology.istio.io/locality": st.sampled_from(("eu.north", "us.west.r")),
        "istio.io/draining": st.sampled_from(("", "", "", "true")),
    },
)


@st.composite
def _ports(draw: st.DrawFn, alone: bool) -> list[JSON]:
    number = draw(st.integers(1, 3))
    numbers = draw(st.permutations(PORTS))[:number]
    names = draw(st.permutations(NAMES))[:number]
    protocols = st.sampled_from(PROTOCOLS + ALONE if alone else PROTOCOLS)
    return [
        given(
            {
                "number": n,
                "name": name,
                "protocol": draw(protocols),
                "targetPort": draw(sometimes(st.integers(1, 65535))),
            }
        )
        for n, name in zip(numbers, names, strict=True)
    ]


@st.composite
def _endpoint(draw: st.DrawFn, ports: list[JSON], resolution: str) -> JSON:
    addresses = ["127.0.0.1", "127.0.0.2", "192.168.7.9", "2001:db8::1"]
    if resolution.startswith("DNS"):
        addresses += ["backend.example.com", "order-db"]
    elif len(ports) == 1 and draw(st.integers(0, 15)) == 0:
        return {"address": "unix:///tmp/order.sock"}
    elif draw(st.integers(0, 99)) == 0:
        addresses = ["10.0.0.1"]  # the gateway's own address
    own = {port["name"]: draw(st.integers(1, 65535)) for port in ports if draw(st.booleans())}
    return given(
        {
            "address": draw(st.sampled_from(addresses)),
            "ports": own or None,
            "labels": draw(sometimes(LABELS, 2)),
            "locality": draw(sometimes(st.sampled_from(LOCALITIES))),
            "weight": draw(sometimes(st.integers(0, 200))),
        }
    )


@st.composite
def _spec(draw: st.DrawFn, hosts: list[str], namespace: str) -> JSON:
    resolution = draw(st.sampled_from(("STATIC", "STATIC", "STATIC", "DNS", "DNS", "DNS_ROUND_ROBIN", "NONE", None)))
    ports = draw(_ports(len(hosts) == 1))
    limits = {"NONE": (0, 0), None: (0, 0), "DNS_ROUND_ROBIN": (0, 1)}.get(resolution, (0, 4))
    if (resolution or "").startswith("DNS") and any(host.startswith("*") for host in hosts):
        limits = (1, limits[1])
    endpoints = draw(st.lists(_endpoint(ports, resolution or "NONE"), min_size=limits[0], max_size=limits[1]))
    return given(
        {
            "hosts": hosts,
            "addresses": draw(
                sometimes(st.lists(st.sampled_from(("10.9.0.1", "10.9.0.2")), min_size=1, max_size=2), 6)
            ),
            "ports": ports,
            "location": draw(st.sampled_from(("MESH_INTERNAL", "MESH_INTERNAL", "MESH_EXTERNAL", None))),
            "resolution": resolution,
            "endpoints": endpoints or None,
            "exportTo": draw(sometimes(st.one_of(export_to(namespace), st.just(["~"])), 5)),
        }
    )


@st.composite
def service_entries(draw: st.DrawFn) -> list[JSON]:
    """Return ServiceEntries. A host occurs once per namespace, since istiod picks between duplicates at random."""
    result, taken = [], set()
    for number in range(draw(st.integers(1, 5))):
        namespace = draw(namespaces)
        hosts = draw(st.lists(st.sampled_from(SERVICES), min_size=1, max_size=2, unique=True))
        hosts = [host for host in hosts if (host, namespace) not in taken]
        taken |= {(host, namespace) for host in hosts}
        if hosts:
            result.append(document("ServiceEntry", f"entry-{number}", namespace, draw(_spec(hosts, namespace))))
    return result
