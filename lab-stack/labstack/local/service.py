"""A service of the shop as a plain process: uvicorn with its HTTP interface and its consumer."""

from __future__ import annotations

import sys

from labstack import roles
from labstack.local.component import Component, Site
from labstack.local.postgres import Postgres
from labstack.local.process import Command
from labstack.paths import DATASETS
from labstack.services import ServiceEntry
from labstack.settings import service_environment


class Service(roles.ShopService, Component):
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

    def __init__(self, site: Site, service: ServiceEntry, database: Postgres) -> None:
        super().__init__(site)
        self.service = service
        self.database = database
        self.name = service.name
        self.ports = {service.name: service.port}

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
