"""The resolved model that the checks and the translator share."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstack.istio.documents import load, read
from labstack.istio.model import lenient
from labstack.istio.model.configs import Configs
from labstack.istio.model.hosts import HostMap, full_name, gateway_name, overlap
from labstack.istio.model.resolution import resolve
from labstack.istio.translate.reading.configs import read_configs
from tests.mesh.typos import VALID

CASES = sorted((Path(__file__).parent / "cases").glob("*/input.yaml"))


def names(configs: Configs) -> list[object]:
    """Return the resolved names of a configuration: its Gateways, the services of each host, and the rules of each."""
    model = resolve(configs)
    hosts = {
        (host, service.namespace, tuple(sorted(port.number for port in service.ports))): sorted(
            config.full_name for config in model.rules.visible_for(host, [service.namespace])
        )
        for host, services in model.services.by_host.items()
        for service in services
    }
    return [set(model.gateways), set(model.services.seen), hosts]


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.parent.name)
def test_checks_and_translator_resolve_the_same_names(case: Path) -> None:
    """The two ways of reading documents lead to the same services, ports, Gateways and rules."""
    if case.parent.name == "52-duplicate-names":
        pytest.skip("the translator uses only the last of the duplicates, which the checks reject")
    documents = read(case)
    assert names(lenient.read_configs(documents)) == names(read_configs(documents)[0])


def test_unreadable_fields_are_left_out() -> None:
    """A document with a field of a wrong type still defines its host and its other ports."""
    text = VALID.replace("endpoints:", "endpoints: 3\n  more:", 1).replace("number: 8443", "number: web")
    services = resolve(lenient.read_configs(load(text))).services
    assert [port.number for port in services.seen["payment.default.svc.cluster.local"].ports] == [9443]
    assert services.matching("order.default.svc.cluster.local")[0].may_have({"version": "v9"})


def test_names_resolve_and_overlap_as_in_istio() -> None:
    """Short hosts, gateway names and wildcards resolve and overlap as in Istio."""
    assert full_name("order", "shop") == "order.shop.svc.cluster.local"
    assert full_name("order.lab", "shop") == "order.lab"
    assert full_name("10.0.0.1", "shop") == "10.0.0.1"
    assert full_name("*", "shop") == "*"
    assert gateway_name("front", "shop") == "shop/front"
    assert gateway_name("lab/front", "shop") == "lab/front"
    assert gateway_name("./front", "shop") == "shop/front"
    assert gateway_name("front.lab.svc.cluster.local", "shop") == "lab/front"
    assert gateway_name("front.", "shop") == "/front"
    assert gateway_name("mesh", "shop") == "mesh"
    assert overlap("*.com", "foo.com")
    assert overlap("*", "*.com")
    assert not overlap("*.foo.com", "foo.com")


def test_most_specific_name_is_found_first() -> None:
    """A lookup finds the same name, otherwise the longest wildcard that covers it, otherwise nothing."""
    hosts: HostMap[str] = HostMap()
    hosts.update({"*": "all", "*.com": "com", "*.shop.com": "shop", "tea.shop.com": "tea"})
    assert hosts.most_specific("tea.shop.com") == "tea"
    assert hosts.most_specific("cup.shop.com") == "shop"
    assert hosts.most_specific("*.cup.shop.com") == "shop"
    assert hosts.most_specific("shop.com") == "com"
    del hosts["*"]
    assert hosts.most_specific("shop.org") is None
    assert hosts.overlapping("*.tea.shop.com") == "*.shop.com"
    assert hosts.overlapping("*com") == "tea.shop.com"
