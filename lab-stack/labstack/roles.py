"""What each component is for the others, in whichever mode it runs: its name, its address, and when it serves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, Protocol

import httpx

from labstack import broker, connect_watcher, http
from labstack.services import ServiceEntry

Kind = Literal["database", "broker", "relay", "watcher", "service"]
ENDING: tuple[tuple[Kind, ...], ...] = (("service", "watcher"), ("relay",), ("broker",), ("database",))
"""The order of an end: what writes goes before what it writes to."""


class HasPorts(Protocol):
    """Where components run: all that both modes' sites have in common."""

    @property
    def ports(self) -> Mapping[str, int]:
        """Port by name; filled before anything starts."""


class Component(ABC):
    """One program of the stack.

    Attributes
    ----------
    name : str
        As in ``lab status``.
    kind : str
        What it does for the others.
    timeout : float
        Seconds after which a start has failed.
    grace : float
        Seconds between asking it to end and making it.
    """

    name: str
    kind: Kind
    timeout: float = 60
    grace: float = 5

    def __init__(self, site: HasPorts) -> None:
        self._ports = site.ports

    @property
    def port(self) -> int:
        """The port on 127.0.0.1 that clients connect to."""
        return self._ports[self.name]

    @abstractmethod
    def is_ready(self) -> bool:
        """Ask it whether it serves; no exception, no long wait."""


class Database(Component):
    """The PostgreSQL server of one service."""

    kind = "database"
    service: ServiceEntry

    @property
    @abstractmethod
    def url(self) -> str:
        """The service's database as a libpq URL, for clients on this machine."""


class Broker(Component):
    """The Kafka broker."""

    name = "kafka"
    kind = "broker"
    grace = 8

    @property
    def address(self) -> str:
        """Bootstrap server, for clients on this machine."""
        return f"127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        """Whether it answers a metadata request."""
        return broker.answers(self.address)


class HttpComponent(Component):
    """Something that listens for HTTP."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class ConnectWorker(HttpComponent):
    """The Kafka Connect worker that runs Debezium."""

    name = "connect"
    kind = "relay"

    def is_ready(self) -> bool:
        """Whether its REST interface answers from the worker's own group, not only from the socket."""
        return http.answers(f"{self.url}/connectors")


class Watcher(HttpComponent):
    """What restarts a connector whose task has failed."""

    name = connect_watcher.NAME
    kind = "watcher"

    def is_ready(self) -> bool:
        """Whether it shows its metrics."""
        return http.answers(f"{self.url}/metrics")


class ShopService(HttpComponent):
    """One of the four services."""

    kind = "service"
    grace = 4
    service: ServiceEntry

    def is_ready(self) -> bool:
        """Whether it serves, with its database and the broker in reach."""
        try:
            answer = http.get(f"{self.url}/healthz/ready", timeout=2)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and answer.json().get("status") == "ready"
