"""The few names that all strategies use, and fragments that all kinds share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

NAMESPACES = ("default", "default", "default", "default", "shop", "istio-system")
SERVICES = (
    "order.default.svc.cluster.local",
    "payment.default.svc.cluster.local",
    "order.shop.svc.cluster.local",
    "api.example.com",
    "Files.example.com",
    "*.wild.example.com",
)
SHORT = ("order", "payment", "stock")
UNKNOWN = ("nowhere.default.svc.cluster.local", "gone.example.com")
SUBSETS = ("v1", "v2", "v3")
PORTS = (80, 8000, 8443, 9000)
VERSIONS = ("v1", "v1", "v1beta1", "v1alpha3")

JSON = dict[str, Any]

namespaces = st.sampled_from(NAMESPACES)
spans = st.sampled_from(("1ms", "30ms", "250ms", "1s", "1.5s", "2m", "1h30m", "90061.001s"))
texts = st.sampled_from(("a", "tester", "v2", "x-y_z", "a b", "1.0", "ü"))
percents = st.sampled_from((0, 0.0001, 0.5, 1, 10, 12.5, 33.333333, 50, 99.9999, 100)).map(
    lambda value: {"value": value}
)


@dataclass(frozen=True)
class World:
    """The hosts and ports that exist, so that most references have a target."""

    hosts: tuple[str, ...]
    ports: tuple[int, ...]

    @classmethod
    def of(cls, entries: Iterable[JSON]) -> World:
        """Return the hosts and ports that ServiceEntries declare."""
        specs = [entry["spec"] for entry in entries]
        hosts = dict.fromkeys(host for spec in specs for host in spec["hosts"])
        ports = dict.fromkeys(port["number"] for spec in specs for port in spec["ports"])
        return cls(tuple(hosts), tuple(ports))


def fields(
    required: Mapping[str, st.SearchStrategy[Any]], optional: Mapping[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[JSON]:
    """Return objects with the required fields and some of the optional ones, seldom all."""
    return st.fixed_dictionaries(dict(required), optional=dict(optional))


def some(optional: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[JSON]:
    """Return objects with at least one of the optional fields."""
    return st.fixed_dictionaries({}, optional=dict(optional)).filter(bool)


def sometimes(strategy: st.SearchStrategy[Any], odds: int = 4) -> st.SearchStrategy[Any]:
    """Return a value once in `odds` draws, otherwise None, which `given` omits."""
    return st.integers(0, odds - 1).flatmap(lambda number: strategy if number == 0 else st.none())


def given(spec: Mapping[str, Any]) -> JSON:
    """Return an object without the fields that are None."""
    return {name: value for name, value in spec.items() if value is not None}


@st.composite
def export_to(draw: st.DrawFn, namespace: str) -> list[str]:
    """Return namespaces that pass validation: no duplicates, and ``*`` only alone."""
    names = draw(st.lists(st.sampled_from((".", "default", "shop", "elsewhere")), min_size=1, max_size=2, unique=True))
    if "." in names and namespace in names:
        names.remove(namespace)
    return draw(st.sampled_from((names, ["*"], names)))


def document(kind: str, name: str, namespace: str, spec: Mapping[str, Any], version: str = "v1") -> JSON:
    """Return a Kubernetes object."""
    return {
        "apiVersion": f"networking.istio.io/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": dict(spec),
    }
