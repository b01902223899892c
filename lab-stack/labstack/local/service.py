"""A service of the shop as a plain process: uvicorn with its HTTP interface and its consumer."""

from __future__ import annotations

import sys

import httpx

from labstack import http
from labstack.local.component import Component, Site
from labstack.local.postgres import Postgres
from labstack.local.process import Command
from labstack.paths import DATASETS
from labstack.services import ServiceEntry
from labstack.settings import service_environment


class Service(Component):
    """One of the four services.

    Parameters
    ----------
    site : Site
        Where the lab runs.
    service : ServiceEntry
        Which one.
    database : Postgres
        Its database.
    """

    grace = 4

    def __init__(self, site: Site, service: ServiceEntry, database: Postgres) -> None:
        super().__init__(site)
        self.service = service
        self.database = database
        self.name = service.name
        self.ports = {service.name: service.port}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> Command:
        return Command(
            [sys.executable, "-m", "labservices", self.name],
            cwd=self.site.paths.state,
            env=service_environment(
                database_url=self.database.url,
                kafka=f"127.0.0.1:{self.site.ports['kafka']}",
                port=self.port,
                datasets=DATASETS,
                switches=self.site.switches.get(self.name, {}),
            ),
        )

    def is_ready(self) -> bool:
        """Whether it serves, with its database and the broker in reach."""
        try:
            answer = http.get(f"{self.url}/healthz/ready", timeout=2)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and answer.json().get("status") == "ready"
