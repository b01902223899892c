"""The watcher that restarts failed connectors, in a container of the services' image."""

from __future__ import annotations

from collections.abc import Sequence

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends import connect_watcher
from labstack.backends.docker.component import Component, Context
from labstack.backends.docker.components.connect import Connect
from labstack.backends.docker.components.postgres import Postgres
from labstack.backends.docker.images import services_image
from labstack.clients.database_server import READER

PROGRAM = "/opt/saga-lab/watcher.py"


class ConnectWatcher(interfaces.Watcher, Component):
    """The process that restarts connectors whose task has failed.

    Parameters
    ----------
    context : Context
        Ports, network and settings of the lab.
    connect : Connect
        The worker to watch.
    databases : sequence of Postgres
        The databases that the connectors read.
    """

    usual_port = connect_watcher.USUAL_PORT
    inner_port = 8000
    entry_point = ("python", PROGRAM)

    def __init__(self, context: Context, connect: Connect, databases: Sequence[Postgres]) -> None:
        super().__init__(context)
        self.connect = connect
        self.databases = databases

    @property
    def image(self) -> str:
        return services_image()

    def configure(self, container: DockerContainer) -> None:
        urls = {database.service.name: database.inner_server.url(READER) for database in self.databases}
        variables = connect_watcher.environment(self.connect.inner_url, urls, "0.0.0.0", self.inner_port)
        container.with_envs(PYTHONPATH="/app", **variables)  # for the services' package
        container.with_copy_into_container(connect_watcher.PROGRAM.read_bytes(), PROGRAM, 0o644)
