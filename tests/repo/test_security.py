"""docs/security.md, compared with the components."""

from __future__ import annotations

import re
from pathlib import Path

from labstack.backends.processes.backend import OBSERVERS
from labstack.backends.processes.components.connect import Connect
from labstack.backends.processes.components.connect_watcher import ConnectWatcher
from labstack.backends.processes.components.envoy import Envoy
from labstack.backends.processes.components.istiod import Istiod
from labstack.backends.processes.components.kafka import Kafka
from labstack.config.services import load_services

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
COMPONENTS = (Kafka, Connect, ConnectWatcher, Envoy, Istiod, *OBSERVERS)


def documented_ports() -> set[int]:
    """Return the ports in the first column of the page's tables."""
    found: set[int] = set()
    for cell in re.findall(r"^\| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        for first, last in re.findall(r"(\d{4,5})(?:–(\d{4,5}))?", cell):
            found.update(range(int(first), int(last or first) + 1))
    return found


def test_the_page_lists_every_port() -> None:
    """Each usual port of each component is in the table of ports."""
    usual = {number for component in COMPONENTS for number in component.ports.values()}
    for service in load_services():
        usual |= {service.port, service.database_port, *service.versions.values()}
    assert usual - documented_ports() == set()
