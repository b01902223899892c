"""The translator rejects unsupported or malformed configuration by field and line, and never fails otherwise."""

from __future__ import annotations

import random
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from labstack.istio.documents import load
from labstack.istio.errors import InvalidMesh, MeshError, Unsupported
from labstack.istio.translate import translate
from tests.mesh.strategies import configurations
from tests.services.luck import example_settings

HEAD = """\
apiVersion: networking.istio.io/v1
kind: {kind}
metadata:
  name: it
  namespace: default
spec:
"""

# Kind, spec, and the line and field that the translator rejects.
UNSUPPORTED = [
    (
        "Gateway",
        "servers:\n- port: {number: 443, name: s, protocol: HTTP}\n  hosts: ['*']\n  tls:\n    mode: SIMPLE",
        10,
        "spec.servers[0].tls",
    ),
    (
        "Gateway",
        "servers:\n- port:\n    number: 443\n    name: s\n    protocol: HTTPS\n  hosts: ['*']",
        11,
        "spec.servers[0].port.protocol",
    ),
    ("Gateway", "servers:\n- port: {number: 1, name: s, protocol: TCP}", 8, "spec.servers[0].port.protocol"),
    ("VirtualService", "hosts: [a.test]\ntcp:\n- route: [{destination: {host: a}}]", 8, "spec.tcp"),
    ("VirtualService", "hosts: [a.test]\ntls: []", 8, "spec.tls"),
    ("VirtualService", "hosts: [a.test]\nhttp:\n- delegate: {name: b}", 9, "spec.http[0].delegate"),
    (
        "VirtualService",
        "http:\n- fault:\n    abort: {http2Error: x}",
        9,
        "spec.http[0].fault.abort.http2Error",
    ),
    (
        "VirtualService",
        "http:\n- match:\n  - headers:\n      '@request.auth.claims.group': {exact: a}",
        10,
        'spec.http[0].match[0].headers["@request.auth.claims.group"]',
    ),
    ("VirtualService", "http:\n- match:\n  - uri: {prefx: /}", 9, "spec.http[0].match[0].uri.prefx"),
    ("VirtualService", "http:\n- retry:\n    attempts: 3", 8, "spec.http[0].retry"),
    ("DestinationRule", "host: a\ntrafficPolicy:\n  tls: {mode: DISABLE}", 9, "spec.trafficPolicy.tls"),
    (
        "DestinationRule",
        "host: a\ntrafficPolicy:\n  loadBalancer:\n    localityLbSetting:\n      failover: []",
        11,
        "spec.trafficPolicy.loadBalancer.localityLbSetting.failover",
    ),
    ("DestinationRule", "host: a\nworkloadSelector: {}", 8, "spec.workloadSelector"),
    ("ServiceEntry", "hosts: [a]\nworkloadSelector: {labels: {}}", 8, "spec.workloadSelector"),
    ("ServiceEntry", "hosts: ['*.a']\nresolution: DYNAMIC_DNS", 8, "spec.resolution"),
    ("ServiceEntry", "hosts: [a]\nendpoints:\n- address: 127.0.0.1\n  network: x", 10, "spec.endpoints[0].network"),
    ("EnvoyFilter", "configPatches: []", 2, "kind"),
    ("Sidecar", "egress: []", 2, "kind"),
    ("VirtualServise", "hosts: [a]", 2, "kind"),
]


def _text(kind: str, spec: str) -> str:
    return HEAD.format(kind=kind) + "".join(f"  {line}\n" for line in spec.splitlines())


@pytest.mark.parametrize(("kind", "spec", "line", "field"), UNSUPPORTED, ids=lambda part: str(part)[:40])
def test_unsupported_configuration_is_rejected(kind: str, spec: str, line: int, field: str) -> None:
    """The error names the file, line and field of unsupported configuration."""
    with pytest.raises(Unsupported) as refusal:
        translate(load(_text(kind, spec), "it.yaml"))
    assert [(each.line, each.field) for each in refusal.value.problems] == [(line, field)]
    assert f"it.yaml:{line}: {field}" in str(refusal.value)


def test_one_error_lists_everything_unsupported() -> None:
    """One error lists everything that is unsupported in all documents."""
    text = "---\n".join(_text(kind, spec) for kind, spec, _, _ in UNSUPPORTED)
    with pytest.raises(Unsupported) as refusal:
        translate(load(text))
    assert [each.field for each in refusal.value.problems] == [field for _, _, _, field in UNSUPPORTED]


def test_misspelt_field_gets_a_suggestion() -> None:
    """The error for a misspelt field suggests the most similar known field."""
    with pytest.raises(Unsupported, match="did you mean `prefix`"):
        translate(load(_text("VirtualService", "http: [{match: [{uri: {prefx: /}}]}]")))


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("annotations: {networking.istio.io/traffic-distribution: PreferClose}", "annotations"),
        ("labels: {istio.io/persistent-session: cookie}", "labels"),
        ("namspace: default", "namespace"),
    ],
)
def test_metadata_that_controls_istiod_is_rejected(where: str, reason: str) -> None:
    """Annotations and labels that control istiod, and unknown metadata fields, are rejected."""
    text = _text("ServiceEntry", "hosts: [a.test]").replace("  name: it\n", f"  name: it\n  {where}\n")
    with pytest.raises(Unsupported, match=reason):
        translate(load(text))


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("VirtualService", "hosts: a.test", "spec.hosts"),
        ("VirtualService", "http: [{route: [{weight: heavy}]}]", "spec.http[0].route[0].weight"),
        ("VirtualService", "http: [{route: [{weight: 80.5}]}]", "spec.http[0].route[0].weight"),
        ("VirtualService", "http: [{timeout: 5}]", "spec.http[0].timeout"),
        ("VirtualService", "http: [{timeout: 5 seconds}]", "spec.http[0].timeout"),
        ("VirtualService", "http: [{match: [{ignoreUriCase: maybe}]}]", "spec.http[0].match[0].ignoreUriCase"),
        ("VirtualService", "http: [{match: [{uri: {exact: /a, prefix: /b}}]}]", "spec.http[0].match[0].uri.prefix"),
        ("VirtualService", "http: [null]", "spec.http[0]"),
        ("ServiceEntry", "resolution: SOMEHOW", "spec.resolution"),
        ("ServiceEntry", "ports: [{number: -1}]", "spec.ports[0].number"),
        ("ServiceEntry", "ports: [{protocol: SMOKE}]", "spec.ports[0].protocol"),
    ],
)
def test_value_that_istiod_could_not_read_is_rejected(kind: str, spec: str, field: str) -> None:
    """A value that istiod could not read either is rejected with its field and the expected form."""
    with pytest.raises(InvalidMesh, match=r"expected|only one") as refusal:
        translate(load(_text(kind, spec)))
    assert [each.field for each in refusal.value.problems] == [field]


ODD: list[Any] = [None, {}, [], "", "a", "1s", "*", 0, -1, 7, 2**40, 1.5, True, False, {"exact": "a"}, [{}], ["a"]]


def _slots(value: Any) -> list[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [slot for key, item in items for slot in ((value, key), *_slots(item))]


@example_settings(60, shrink=False)
@given(configurations(), st.integers(0, 2**32))
def test_damaged_configuration_is_translated_or_rejected(text: str, chance: int) -> None:
    """A damaged configuration is either translated or rejected with a list of problems."""
    rng = random.Random(chance)
    documents = list(yaml.safe_load_all(text))
    for _ in range(rng.randint(1, 6)):
        parent, key = rng.choice(_slots([document["spec"] for document in documents])[len(documents) :])
        parent[key] = rng.choice(ODD)
    problems = ["none"]
    try:
        translate(load(yaml.safe_dump_all(documents)))
    except MeshError as refusal:
        problems = [str(problem) for problem in refusal.problems]
    assert problems
