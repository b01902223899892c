"""A service of the shop as a plain process: uvicorn with the HTTP interface, and the consumer."""

from __future__ import annotations

import sys

from labstack.backends import components as interfaces
from labstack.backends.processes.component import Component, Context
from labstack.backends.processes.components.postgres import Postgres
from labstack.backends.processes.process import Command
from labstack.config.paths import DATASETS
from labstack.config.services import FIRST_VERSION, ServiceEntry, instance_name
from labstack.config.settings import service_environment


class Service(interfaces.ShopService, Component):
    """One of the four services.

    Parameters
    ----------
    context : Context
        Folders, ports and settings of the lab.
    service : ServiceEntry
        The service to run.
    database : Postgres
        The service's database, which all its versions share.
    version : str
        Version of the service.
    """

    def __init__(
        self, context: Context, service: ServiceEntry, database: Postgres, version: str = FIRST_VERSION
    ) -> None:
        super().__init__(context)
        self.service = service
        self.database = database
        self.version = version
        self.name = instance_name(service, version)
        self.optional = version != FIRST_VERSION
        self.ports = {self.name: service.versions.get(version, service.port)}

    @property
    def upstream_address(self) -> tuple[str, int]:
        """Host and port on this machine."""
        return "127.0.0.1", self.port

    def prepare(self) -> Command:
        return Command(
            [sys.executable, "-m", "labservices", self.service.name],
            cwd=self.context.paths.state,
            env=service_environment(
                database_url=self.database.server.url(self.service.name),
                kafka=f"127.0.0.1:{self.context.ports['kafka']}",
                port=self.port,
                datasets=DATASETS,
                version=self.version,
                switches=self.context.switches.get(self.service.name, {}),
                **self.context.span_settings(
                    f"http://127.0.0.1:{self.context.ports.get(interfaces.JAEGER_OTLP)}",
                    str(self.context.paths.spans(self.name)),
                ),
            ),
            by_fork=True,
        )
