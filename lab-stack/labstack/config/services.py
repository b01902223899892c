"""The list of services (``lab-stack/services.toml``) and the topics, and the names derived from them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from labservices import contract
from labstack.config.paths import CONFIG

FIRST_VERSION = "v1"
"""The version that every service has."""


@dataclass(frozen=True)
class ServiceEntry:
    """An entry of the list of services."""

    name: str
    port: int
    database_port: int
    paths: tuple[str, ...]
    versions: dict[str, int] = field(default_factory=dict)
    """Further versions that can run beside the first, and the port of each."""

    @property
    def database(self) -> str:
        """Name of its database component."""
        return f"{self.name}-db"

    @property
    def events_topic(self) -> str:
        return contract.events_topic(self.name)


def load_services(file: Path = CONFIG / "services.toml") -> tuple[ServiceEntry, ...]:
    """Read the list of services."""
    raw = tomllib.loads(file.read_text(encoding="utf-8"))
    return tuple(ServiceEntry(**{**entry, "paths": tuple(entry["paths"])}) for entry in raw["service"])


def instance_name(service: ServiceEntry, version: str) -> str:
    """Return the name of the component that runs a version of a service."""
    return service.name if version == FIRST_VERSION else f"{service.name}-{version}"


@dataclass(frozen=True)
class TopicPlan:
    """The topics: their number of partitions, their names, and the settings that differ by topic."""

    partitions: int
    names: tuple[str, ...]
    config: dict[str, dict[str, str]] = field(default_factory=dict)


def load_topics(services: tuple[ServiceEntry, ...], file: Path = CONFIG / "kafka" / "topics.toml") -> TopicPlan:
    """Return the topics of these services."""
    raw = tomllib.loads(file.read_text(encoding="utf-8"))
    names = tuple(name.format(service=service.name) for name in raw["names"] for service in services)
    config = {name.format(service=s.name): own for name, own in raw["config"].items() for s in services}
    return TopicPlan(raw["partitions"], names, config)
