"""Strategies for the matches of routes."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.mesh.strategies.words import JSON, fields, texts

REGEXES = ("^v[12]$", ".*", "/order/[0-9]+", "a|b")
string_matches = st.one_of(
    st.fixed_dictionaries({"exact": texts}),
    st.fixed_dictionaries({"prefix": texts}),
    st.fixed_dictionaries({"regex": st.sampled_from(REGEXES)}),
)
# An empty match requires only that the header is present. So does the regex `*`, which only some fields accept.
present: st.SearchStrategy[JSON] = st.just({})
URIS = st.one_of(
    st.sampled_from(("/", "/order", "/order/", "/payment", "")).map(lambda path: {"prefix": path}),
    st.sampled_from(("/", "/order", "/healthz")).map(lambda path: {"exact": path}),
    st.sampled_from((*REGEXES, "/.*")).map(lambda regex: {"regex": regex}),
)
HEADERS = st.sampled_from(("x-user", "x-canary", "cookie", "End-User", ":path"))
METHODS = st.sampled_from(("GET", "POST"))
match = fields(
    {},
    {
        "name": st.sampled_from(("m1", "m2")),
        "uri": URIS,
        "scheme": st.sampled_from(("http", "https")).map(lambda scheme: {"exact": scheme}),
        "method": st.one_of(METHODS.map(lambda method: {"exact": method}), st.just({"regex": "GET|HEAD"})),
        "authority": string_matches,
        "headers": st.dictionaries(HEADERS, st.one_of(string_matches, present), max_size=3),
        "withoutHeaders": st.dictionaries(
            HEADERS, st.one_of(string_matches, present, st.just({"regex": "*"})), max_size=2
        ),
        "queryParams": st.dictionaries(st.sampled_from(("v", "debug")), st.one_of(string_matches, present), max_size=2),
        "ignoreUriCase": st.booleans(),
        "port": st.sampled_from((80, 8080, 8080, 18080)),
        "gateways": st.lists(st.sampled_from(("gw-a", "default/gw-a", "gw-b", "missing", "mesh")), max_size=2),
        "sourceLabels": st.sampled_from(({"istio": "ingressgateway"}, {"app": "order"})),
        "sourceNamespace": st.sampled_from(("default", "shop")),
        "statPrefix": st.just("stats"),
    },
)
# Simple matches are more common, and overlap with others more often.
simple = fields({}, {"uri": URIS, "headers": st.dictionaries(HEADERS, string_matches, max_size=1)})
matches = st.lists(st.one_of(simple, simple, match), min_size=1, max_size=3)
