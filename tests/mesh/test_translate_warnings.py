"""Configuration that istiod accepts silently but that its author hardly ever intends causes a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstack.istio.documents import load, read
from labstack.istio.translate import translate

CASES = Path(__file__).parent / "cases"
BROKEN = (CASES / "45-broken-references" / "input.yaml").read_text()


def _warnings(case: str) -> list[tuple[str, str]]:
    return [(each.field, each.message) for each in translate(read(CASES / case / "input.yaml")).warnings]


def test_valid_configuration_has_no_warnings() -> None:
    """The configuration of the lab's own four services causes no warnings."""
    assert _warnings("14-four-services") == []


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("spec.gateways[1]", "no Gateway `default/no-gateway` opens a port"),
        ("spec.gateways[2]", "no Gateway `other/lab-gateway` opens a port"),
        ("spec.http[0].route[0].destination.host", "no ServiceEntry has the host `nowhere.default.svc.cluster.local`"),
        ("spec.http[1].route[0].destination.subset", "no DestinationRule has a subset `v9`"),
        ("spec.http[2].route[0].destination.port", "has no port 81; it has 8000"),
        ("spec.http[3].mirror.host", "no ServiceEntry has the host `nowhere.example.com`"),
        ("spec.http[4].route[1].destination.host", "no ServiceEntry has the host `nowhere.default.svc.cluster.local`"),
        ("spec.host", "no ServiceEntry has the host `nowhere.default.svc.cluster.local`, so the rule has no effect"),
    ],
)
def test_broken_reference_causes_one_warning(field: str, message: str) -> None:
    """Each reference to a missing object causes one warning, at its own field."""
    found = [each for each in _warnings("45-broken-references") if each[0] == field]
    assert len(found) == 1
    assert message in found[0][1]


def test_a_warning_names_its_line() -> None:
    """A warning starts with the file and line of the reference."""
    warnings = translate(load(BROKEN, "broken.yaml")).warnings
    lines = BROKEN.splitlines()
    subset = next(each for each in warnings if each.field.endswith("subset"))
    assert "v9" in lines[subset.line - 1]
    assert str(subset).startswith(f"broken.yaml:{subset.line}: ")


@pytest.mark.parametrize(
    ("case", "field", "message"),
    [
        ("38-gateway-of-others", "spec.selector", "does not select the lab's gateway"),
        ("52-duplicate-names", "metadata.name", "uses only the last"),
        ("34-wildcard-hosts", "spec.gateways[0]", "no server of the Gateway `default/wild`"),
        ("32-port-level-settings", "spec.http[3].route[0].destination", "several ports"),
    ],
)
def test_misleading_configuration_causes_a_warning(case: str, field: str, message: str) -> None:
    """A Gateway for other proxies, a duplicate name, unserved hosts and an ambiguous port each cause a warning."""
    assert any(message in text for name, text in _warnings(case) if name == field)


def test_virtual_service_without_a_gateway_causes_a_warning() -> None:
    """A VirtualService without a gateway causes a warning, since it applies to sidecars and the lab has none."""
    text = (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: default}\n"
        "spec: {hosts: [a.test], http: [{directResponse: {status: 200}}]}\n"
    )
    assert "names no gateway" in translate(load(text)).warnings[0].message
