"""Strategies for DestinationRules."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.mesh.strategies.words import (
    JSON,
    PORTS,
    SERVICES,
    SHORT,
    SUBSETS,
    UNKNOWN,
    World,
    document,
    export_to,
    fields,
    given,
    namespaces,
    some,
    sometimes,
    spans,
    texts,
)

ANY = (*SERVICES, *SHORT, *UNKNOWN, "*.default.svc.cluster.local", "*.example.com", "*")

POOL = some(
    {
        "tcp": fields(
            {},
            {
                "maxConnections": st.integers(0, 2**31 - 1),
                "connectTimeout": spans,
                "tcpKeepalive": fields({}, {"probes": st.integers(0, 9), "time": spans, "interval": spans}),
                "maxConnectionDuration": spans,
                "idleTimeout": st.one_of(spans, st.just("0s")),
            },
        ),
        "http": fields(
            {},
            {
                "http1MaxPendingRequests": st.integers(0, 1000),
                "http2MaxRequests": st.integers(0, 1000),
                "maxRequestsPerConnection": st.integers(0, 10),
                "maxRetries": st.integers(0, 10),
                "idleTimeout": spans,
                "h2UpgradePolicy": st.sampled_from(("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE")),
                "useClientProtocol": st.booleans(),
                "maxConcurrentStreams": st.integers(0, 100),
            },
        ).filter(lambda http: not (http.get("h2UpgradePolicy") == "UPGRADE" and http.get("useClientProtocol"))),
    }
)
OUTLIER = fields(
    {},
    {
        "consecutive5xxErrors": st.integers(0, 9),
        "consecutiveGatewayErrors": st.integers(0, 9),
        "interval": spans,
        "baseEjectionTime": spans,
        "maxEjectionPercent": st.integers(0, 100),
        "minHealthPercent": st.integers(0, 100),
        "consecutiveErrors": st.integers(0, 9),
        "splitExternalLocalOriginErrors": st.booleans(),
    },
)
LOCAL_ORIGIN = OUTLIER.map(
    lambda outlier: outlier | {"splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 3}
)
COOKIE = fields(
    {"name": texts},
    {
        "path": st.sampled_from(("", "/", "/order")),
        "ttl": st.one_of(spans, st.just("0s")),
        "attributes": st.just([{"name": "SameSite", "value": "Lax"}, {"name": "Secure"}]),
    },
)
KEYS: tuple[st.SearchStrategy[JSON], ...] = (
    st.fixed_dictionaries({"httpHeaderName": texts}),
    st.fixed_dictionaries({"httpCookie": COOKIE}),
    st.fixed_dictionaries({"useSourceIp": st.booleans()}),
    st.fixed_dictionaries({"httpQueryParameterName": texts}),
    st.just({}),
)
RINGS: tuple[st.SearchStrategy[JSON], ...] = (
    st.fixed_dictionaries({"ringHash": fields({}, {"minimumRingSize": st.integers(0, 4096)})}),
    st.fixed_dictionaries({"maglev": fields({"tableSize": st.sampled_from((3, 65537, 101))}, {})}),
    st.fixed_dictionaries({"minimumRingSize": st.integers(0, 4096)}),
    st.just({}),
)
HASH = st.tuples(st.one_of(KEYS), st.one_of(RINGS)).map(lambda parts: parts[0] | parts[1])
EXTRAS = {
    "localityLbSetting": fields({}, {"enabled": st.booleans()}),
    "warmupDurationSecs": spans,
    "warmup": fields(
        {"duration": spans},
        {"minimumPercent": st.sampled_from((0, 10, 50.5, 100)), "aggression": st.sampled_from((1, 1.5, 4))},
    ),
}
SIMPLE = st.sampled_from(
    (
        "UNSPECIFIED",
        "LEAST_CONN",
        "LEAST_REQUEST",
        "RANDOM",
        "ROUND_ROBIN",
        "ROUND_ROBIN",
        "LEAST_REQUEST",
        "PASSTHROUGH",
    )
)
BALANCER = st.one_of(
    fields({"simple": SIMPLE}, EXTRAS),
    fields({"consistentHash": HASH}, EXTRAS),
    fields({"consistentHash": HASH}, {}),
    some(EXTRAS),
)
PARTS = {"connectionPool": POOL, "outlierDetection": st.one_of(OUTLIER, LOCAL_ORIGIN), "loadBalancer": BALANCER}


@st.composite
def _policy(draw: st.DrawFn) -> JSON:
    policy = draw(fields({}, PARTS))
    if draw(st.integers(0, 3)) == 0:
        numbers = draw(st.lists(st.sampled_from(PORTS), min_size=1, max_size=3))
        policy["portLevelSettings"] = [draw(some(PARTS)) | {"port": {"number": number}} for number in numbers]
    if draw(st.integers(0, 9)) == 0:
        policy["retryBudget"] = draw(
            fields({}, {"percent": st.sampled_from((0, 20, 55.5)), "minRetryConcurrency": st.integers(0, 9)})
        )
    return policy or draw(some(PARTS))


@st.composite
def _subset(draw: st.DrawFn, name: str) -> JSON:
    labels = st.fixed_dictionaries(
        {}, optional={"version": st.just(name), "topology.kubernetes.io/region": st.just("eu")}
    )
    return given({"name": name, "labels": draw(sometimes(labels, 1)), "trafficPolicy": draw(sometimes(_policy(), 2))})


@st.composite
def destination_rules(draw: st.DrawFn, world: World) -> list[JSON]:
    """Return DestinationRules, some of them for the same host."""
    result = []
    for number in range(draw(st.integers(0, 5))):
        namespace = draw(namespaces)
        names = draw(st.lists(st.sampled_from(SUBSETS), max_size=3, unique=True))
        spec = {
            "host": draw(st.one_of(st.sampled_from(world.hosts), st.sampled_from(world.hosts), st.sampled_from(ANY))),
            "trafficPolicy": draw(sometimes(_policy(), 2)),
            "subsets": [draw(_subset(name)) for name in names] or None,
            "exportTo": draw(sometimes(export_to(namespace), 4)),
        }
        result.append(document("DestinationRule", f"rule-{number}", namespace, given(spec)))
    return result
