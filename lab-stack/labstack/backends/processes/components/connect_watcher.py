"""The watcher that restarts failed connectors, as a plain process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import MappingProxyType

from labstack.backends import components as interfaces
from labstack.backends import connect_watcher
from labstack.backends.processes.component import Component, Context
from labstack.backends.processes.components.connect import Connect
from labstack.backends.processes.components.postgres import Postgres
from labstack.backends.processes.process import Command
from labstack.clients.database_server import READER


class ConnectWatcher(interfaces.Watcher, Component):
    """The process that restarts connectors whose task has failed.

    Parameters
    ----------
    context : Context
        Folders, ports and settings of the lab.
    connect : Connect
        The worker to watch.
    databases : sequence of Postgres
        The databases that the connectors read.
    """

    ports = MappingProxyType({connect_watcher.NAME: connect_watcher.USUAL_PORT})

    def __init__(self, context: Context, connect: Connect, databases: Sequence[Postgres]) -> None:
        super().__init__(context)
        self.connect = connect
        self.databases = databases

    def prepare(self) -> Command:
        urls = {database.service.name: database.server.url(READER) for database in self.databases}
        variables = connect_watcher.environment(self.connect.url, urls, "127.0.0.1", self.port)
        return Command([sys.executable, str(connect_watcher.PROGRAM)], cwd=self.context.paths.state, env=variables)
