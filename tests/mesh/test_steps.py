"""The steps of a change with istiod: an old cluster stays until no route leads to it."""

from __future__ import annotations

from collections.abc import Sequence

from labstack.gateway.steering import steps
from labstack.istio.documents import Document, resources


def rule(*subsets: str, name: str = "order") -> str:
    """Return a DestinationRule with subsets."""
    listed = "".join(f"\n  - {{name: {one}, labels: {{version: {one}}}}}" for one in subsets)
    head = f"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\nspec:\n"
    return f"{head}  host: {name}\n  subsets:{listed}\n"


def route(subset: str) -> str:
    """Return a VirtualService that sends all requests to a subset."""
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {subset}}}
spec:
  hosts: ["*"]
  http: [{{route: [{{destination: {{host: order, subset: {subset}}}}}]}}]
"""


def names(documents: Sequence[Document]) -> list[str]:
    """Return kind and name of documents, and the subsets of a DestinationRule."""
    return [
        f"{one.kind}/{one.name} {' '.join(subset['name'] for subset in one.spec.get('subsets', []))}".strip()
        for one in documents
    ]


def test_routes_change_while_old_and_new_clusters_exist() -> None:
    """The first step adds the new subset, the second one changes the routes, the third one removes the old subset."""
    before, new = resources(f"{rule('v1')}---{route('v1')}"), resources(f"{rule('v2')}---{route('v2')}")
    first, second, third = steps(new, before)
    assert names(first) == ["DestinationRule/order v2 v1", "VirtualService/v1"]
    assert names(second) == ["DestinationRule/order v2 v1", "VirtualService/v2"]
    assert third == new


def test_removed_rule_stays_until_the_routes_have_changed() -> None:
    """A whole DestinationRule is kept like a subset; routes are not."""
    before, new = resources(f"{rule('v1', name='old')}---{route('v1')}"), resources(rule("v1"))
    *_, step, last = steps(new, before)
    assert names(step) == ["DestinationRule/old v1", "DestinationRule/order v1"]
    assert last == new


def test_an_added_subset_needs_no_third_step() -> None:
    """If nothing is removed, the second step is the last one."""
    before, new = resources(f"{rule('v1')}---{route('v1')}"), resources(f"{rule('v1', 'v2')}---{route('v2')}")
    first, last = steps(new, before)
    assert names(first) == ["DestinationRule/order v1 v2", "VirtualService/v1"]
    assert last == new


def test_a_change_of_routes_alone_has_one_step() -> None:
    """Changed weights are applied at once, and so is a configuration that is applied again."""
    before, new = resources(f"{rule('v1')}---{route('v1')}"), resources(f"{rule('v1')}---{route('v2')}")
    assert steps(new, before) == [new]
    assert steps(new, new) == [new]


def test_other_hosts_under_the_same_name_are_changed_at_once() -> None:
    """If the old clusters can't be kept beside the new ones, there is one step."""
    entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: partner}\nspec:\n  hosts: [%s]\n"
    before, new = resources(entry % "a.example"), resources(entry % "b.example")
    assert steps(new, before) == [new]
    other = resources(rule("v1", name="other").replace("name: other", "name: order"))
    assert steps(other, resources(rule("v1"))) == [other]


def test_a_host_in_full_is_the_same_host() -> None:
    """A rule that spells its host in full keeps the subsets of its old version."""
    before = resources(f"{rule('v1')}---{route('v1')}")
    full = rule("v2").replace("host: order", "host: order.default.svc.cluster.local")
    first, *_ = steps(resources(f"{full}---{route('v2')}"), before)
    assert names(first) == ["DestinationRule/order v2 v1", "VirtualService/v1"]
