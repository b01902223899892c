"""The database server of one service, from the official image."""

from __future__ import annotations

from dataclasses import replace

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends.docker.component import Component, Context
from labstack.clients.database_server import ADMINISTRATOR, DatabaseServer, secret
from labstack.clients.databases import answers
from labstack.config.paths import CONFIG
from labstack.config.services import ServiceEntry
from labstack.config.templates import fill

SETTINGS = "/etc/saga-lab"
SETUP = "/docker-entrypoint-initdb.d"
"""Folder of the scripts that the image runs once, in the new database."""


class Postgres(interfaces.Database, Component):
    """One PostgreSQL server.

    Parameters
    ----------
    context : Context
        Ports, network and settings of the lab.
    service : ServiceEntry
        The service that owns the database.
    """

    image_name = "postgres"
    inner_port = 5432
    volume = "/var/lib/postgresql"
    """From version 18 on, the image keeps each major version in a folder below this one."""

    def __init__(self, context: Context, service: ServiceEntry) -> None:
        super().__init__(context)
        self.service = service
        self.name = service.database
        self.usual_port = service.database_port

    @property
    def server(self) -> DatabaseServer:
        """The server's address for clients on this machine, and its passwords."""
        file = self.context.paths.config(self.name) / "secret"
        return DatabaseServer("127.0.0.1", self.port, self.service.name, secret(file))

    @property
    def inner_server(self) -> DatabaseServer:
        """The server's address for the other containers, and its passwords."""
        return replace(self.server, host=self.name, port=self.inner_port)

    def configure(self, container: DockerContainer) -> None:
        container.with_envs(
            POSTGRES_USER=ADMINISTRATOR,
            POSTGRES_PASSWORD=self.server.password(ADMINISTRATOR),
            POSTGRES_DB=self.service.name,
            POSTGRES_INITDB_ARGS="--encoding=UTF8 --locale=C --no-sync",
        )
        values: dict[str, object] = {
            "LISTEN": "*",
            "PORT": self.inner_port,
            "SOCKETS": "/var/run/postgresql",
            "CLIENTS": "all",
        }
        for name in ("postgresql.conf", "pg_hba.conf"):
            text = fill(CONFIG / "postgres" / name, values)
            container.with_copy_into_container(text.encode(), f"{SETTINGS}/{name}", 0o644)
        for number, script in enumerate(self.server.setup_scripts, 1):
            container.with_copy_into_container(script.encode(), f"{SETUP}/{number}-setup.sql", 0o644)
        files = {"config_file": "postgresql.conf", "hba_file": "pg_hba.conf"}
        flags = [part for name, file in files.items() for part in ("-c", f"{name}={SETTINGS}/{file}")]
        container.with_command(["postgres", *flags])

    def is_ready(self) -> bool:
        """Report whether the service's database answers.

        The server accepts connections only after the image has created the database.
        """
        return answers(self.url)
