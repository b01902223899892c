"""The objects of a configuration, and their visibility by exportTo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from labstack.istio.documents import Document
from labstack.istio.errors import Problem

Path = tuple[str | int, ...]

OLDEST = datetime.min.replace(tzinfo=UTC)
"""The creation time of an object that has none."""


@dataclass(frozen=True)
class Config:
    """One object of a supported kind, with a spec in which every field that the model reads has Istio's type."""

    document: Document
    spec: dict[str, Any]
    labels: dict[str, str] = field(default_factory=dict)
    created: datetime = OLDEST

    @property
    def name(self) -> str:
        """The object's name."""
        return self.document.name

    @property
    def namespace(self) -> str:
        """The namespace; if the object names none, the one that a cluster assigns."""
        return self.document.namespace

    @property
    def full_name(self) -> str:
        """Namespace and name, as references write them: ``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def age(self) -> tuple[datetime, str, str]:
        """istiod's sort key: creation time, then name, then namespace. The oldest object takes precedence."""
        return self.created, self.name, self.namespace

    @property
    def origin(self) -> str:
        """istiod's name for the object in generated resources, always with the newest API version."""
        words = {"VirtualService": "virtual-service", "DestinationRule": "destination-rule"}
        kind = words[self.document.kind]
        return f"/apis/networking.istio.io/v1/namespaces/{self.namespace}/{kind}/{self.name}"

    def export_to(self) -> set[str]:
        """Return the namespaces to which the object is exported; empty means all."""
        return set(self.spec.get("exportTo", []))

    def visible_to(self, namespace: str) -> bool:
        """Report whether the object is exported to a namespace."""
        export_to = self.export_to()
        own = self.namespace == namespace
        return not export_to or bool(export_to & {"*", namespace}) or (own and "." in export_to)

    def export_rank(self, namespace: str) -> int:
        """Return the rank of a visible object in a namespace: its private ones, those exported to it, public ones."""
        export_to = self.export_to()
        if not export_to or "*" in export_to:
            return 2
        return 0 if self.namespace == namespace else 1

    def problem(self, path: Path, message: str) -> Problem:
        """Return a problem of this object at a path below its spec."""
        return self.document.problem(("spec", *path), message)


@dataclass
class Configs:
    """All objects of one configuration, by kind.

    Attributes
    ----------
    gateways, virtual_services, destination_rules, service_entries : list of Config
        The objects, each kind in order of precedence: for a control plane, from oldest to newest.
    """

    gateways: list[Config] = field(default_factory=list)
    virtual_services: list[Config] = field(default_factory=list)
    destination_rules: list[Config] = field(default_factory=list)
    service_entries: list[Config] = field(default_factory=list)


def by_kind(configs: Iterable[Config]) -> Configs:
    """Return objects by kind, in the order given."""
    result = Configs()
    lists = {
        "Gateway": result.gateways,
        "VirtualService": result.virtual_services,
        "DestinationRule": result.destination_rules,
        "ServiceEntry": result.service_entries,
    }
    for config in configs:
        lists[config.document.kind].append(config)
    return result
