"""Strategies for the routes of VirtualServices."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.mesh.strategies.matches import matches, string_matches
from tests.mesh.strategies.words import (
    JSON,
    PORTS,
    SERVICES,
    SHORT,
    SUBSETS,
    UNKNOWN,
    World,
    fields,
    percents,
    some,
    sometimes,
    spans,
    texts,
)

HEADER_NAMES = ("x-a", "X-B", "x-c", "x-remove")
VALUES = st.one_of(texts, st.sampled_from(("%REQ(x-user)%", "100%%", "")))
AUTHORITIES = ("internal.test", "v2.internal.test:8080")
CONDITIONS = (
    "5xx",
    "gateway-error",
    "reset",
    "connect-failure",
    "retriable-4xx",
    "503",
    "429",
    "retriable-status-codes",
    "cancelled",
)
GRPC = ("NOT_FOUND", "UNAVAILABLE", "OK", "UNAUTHENTICATED")

TABLE = st.dictionaries(st.sampled_from(HEADER_NAMES), VALUES, min_size=1, max_size=3)
NAMES = st.lists(st.sampled_from(HEADER_NAMES), min_size=1, max_size=3)
OPERATIONS = fields({}, {"set": TABLE, "add": TABLE, "remove": NAMES})
HEADERS = fields({}, {"request": OPERATIONS, "response": OPERATIONS})


def _destination(world: World) -> st.SearchStrategy[JSON]:
    hosts = st.one_of(*[st.sampled_from(world.hosts)] * 3, st.sampled_from(SERVICES[:5] + SHORT + UNKNOWN))
    ports = st.one_of(*[st.sampled_from(world.ports)] * 3, st.sampled_from(PORTS))
    return fields(
        {"host": hosts}, {"subset": st.sampled_from(SUBSETS), "port": ports.map(lambda number: {"number": number})}
    )


@st.composite
def _headers(draw: st.DrawFn, authority: bool) -> JSON:
    """Return header operations; `authority` allows them to set another host."""
    headers = draw(HEADERS)
    if authority and draw(st.integers(0, 4)) == 0:
        name = draw(st.sampled_from((":authority", "Host", "host")))
        verb = draw(st.sampled_from(("set", "add")))
        headers.setdefault("request", {}).setdefault(verb, {})[name] = draw(st.sampled_from(AUTHORITIES))
    return headers


@st.composite
def _destinations(draw: st.DrawFn, world: World) -> list[JSON]:
    number = draw(st.sampled_from((1, 1, 2, 3)))
    weights = draw(st.lists(st.sampled_from((0, 1, 10, 50, 90, 100)), min_size=number, max_size=number))
    if number > 1 and not sum(weights):
        weights[0] = 1
    result = []
    for weight in weights:
        each: JSON = {"destination": draw(_destination(world))}
        if number > 1 or draw(st.integers(0, 2)) == 0:
            each["weight"] = weight
        if draw(st.integers(0, 3)) == 0:
            each["headers"] = draw(_headers(True))
        result.append(each)
    return result


RETRIES: st.SearchStrategy[JSON] = st.one_of(
    st.just({"attempts": 0}),
    st.just({}),
    fields(
        {"attempts": st.integers(1, 5)},
        {
            "perTryTimeout": spans,
            "retryOn": st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=4).map(",".join),
            "retryRemoteLocalities": st.booleans(),
            "retryIgnorePreviousHosts": st.booleans(),
            "backoff": spans,
        },
    ),
)
DELAY = fields({}, {"fixedDelay": spans, "percentage": percents, "percent": st.integers(0, 100)})
ABORT = st.one_of(
    fields({"httpStatus": st.integers(200, 599)}, {"percentage": percents}),
    fields({"grpcStatus": st.sampled_from(GRPC)}, {"percentage": percents}),
    fields({}, {"percentage": percents}),
)
FAULT = some({"delay": DELAY, "abort": ABORT})
REWRITE = st.one_of(
    st.fixed_dictionaries({"uri": st.sampled_from(("/", "/v2", "/new/"))}),
    st.fixed_dictionaries({"uri": st.just("/v2"), "authority": st.sampled_from(AUTHORITIES)}),
    st.fixed_dictionaries({"authority": st.sampled_from(AUTHORITIES)}),
    st.just({"uriRegexRewrite": {"match": "^/order/([^/]+)/(.*)$", "rewrite": "/v2/\\2/\\1"}}),
)
CORS = fields(
    {},
    {
        "allowOrigins": st.lists(string_matches, min_size=1, max_size=2),
        "allowOrigin": st.lists(st.sampled_from(("*", "https://a.test")), min_size=1, max_size=2),
        "allowMethods": st.lists(st.sampled_from(("GET", "POST", "*")), max_size=3),
        "allowHeaders": st.lists(st.sampled_from(("x-a", "content-type", "*")), max_size=2),
        "exposeHeaders": st.lists(st.sampled_from(("x-a", "x-b")), max_size=2),
        "maxAge": st.sampled_from(("1s", "24h")),
        "allowCredentials": st.booleans(),
        "unmatchedPreflights": st.sampled_from(("UNSPECIFIED", "FORWARD", "IGNORE")),
    },
)
REDIRECT = st.one_of(
    fields(
        {"uri": st.sampled_from(("/new", "/"))},
        {
            "authority": st.sampled_from(AUTHORITIES),
            "scheme": st.sampled_from(("http", "https")),
            "port": st.sampled_from((80, 443, 8443)),
            "redirectCode": st.sampled_from((301, 302, 303, 305, 307, 308)),
        },
    ),
    fields(
        {"derivePort": st.sampled_from(("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"))},
        {"scheme": st.sampled_from(("http", "https")), "authority": st.sampled_from(AUTHORITIES)},
    ),
)
RESPONSE = fields(
    {"status": st.sampled_from((200, 404, 503))},
    {
        "body": st.one_of(
            st.just({"string": '{"up": false}'}), st.just({"bytes": "aGk="}), st.just({"string": ""}), st.just({})
        )
    },
)


def _mirroring(draw: st.DrawFn, world: World) -> JSON:
    which = draw(st.integers(0, 7))
    if which == 0:
        mirror = fields({"destination": _destination(world)}, {"percentage": percents})
        return {"mirrors": draw(st.lists(mirror, min_size=1, max_size=2))}
    if which > 2:
        return {}
    percent = {"mirrorPercentage": percents, "mirrorPercent": st.integers(0, 100)}
    return {"mirror": draw(_destination(world)), **draw(fields({}, percent))}


def _forward(draw: st.DrawFn, world: World) -> JSON:
    rewrite = draw(sometimes(REWRITE))
    spec = {
        "route": draw(_destinations(world)),
        "rewrite": rewrite,
        "timeout": draw(sometimes(spans)),
        "retries": draw(sometimes(RETRIES, 2)),
        "fault": draw(sometimes(FAULT)),
        "headers": draw(sometimes(_headers("authority" not in (rewrite or {})))),
        **_mirroring(draw, world),
    }
    return {name: value for name, value in spec.items() if value is not None}


@st.composite
def http_route(draw: st.DrawFn, world: World) -> JSON:
    """Return a route that forwards, redirects or responds directly."""
    which = draw(st.integers(0, 7))
    if which == 0:
        spec = {
            "redirect": draw(REDIRECT),
            **draw(fields({}, {"headers": _headers(True), "timeout": spans, "retries": RETRIES})),
        }
    elif which == 1:
        spec = {"directResponse": draw(RESPONSE), **draw(fields({}, {"headers": _headers(True)}))}
    else:
        spec = _forward(draw, world)
    common = fields({}, {"name": st.sampled_from(("first", "second", "a.b")), "corsPolicy": CORS, "match": matches})
    if draw(st.integers(0, 3)):
        spec["match"] = draw(matches)
    return spec | draw(common)
