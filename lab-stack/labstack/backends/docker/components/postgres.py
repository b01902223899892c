"""The database server of one service, from the official image."""

from __future__ import annotations

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends.docker.component import Component, Context
from labstack.clients.databases import USER, answers, database_url
from labstack.config.paths import CONFIG
from labstack.config.services import ServiceEntry
from labstack.config.templates import fill

SETTINGS = "/etc/saga-lab"


class Postgres(interfaces.Database, Component):
    """One PostgreSQL server.

    Parameters
    ----------
    context : Site
        Ports, network and settings of the lab.
    service : ServiceEntry
        The service that owns the database.
    """

    image_name = "postgres"
    inner_port = 5432
    volume = "/var/lib/postgresql/data"

    def __init__(self, context: Context, service: ServiceEntry) -> None:
        super().__init__(context)
        self.service = service
        self.name = service.database
        self.usual_port = service.database_port

    @property
    def url(self) -> str:
        """URL of the service's database for clients on this machine."""
        return database_url(self.context.password, "127.0.0.1", self.port, self.service.name)

    @property
    def inner_url(self) -> str:
        """URL of the service's database for the other containers."""
        return database_url(self.context.password, self.name, self.inner_port, self.service.name)

    def configure(self, container: DockerContainer) -> None:
        container.with_envs(
            POSTGRES_USER=USER,
            POSTGRES_PASSWORD=self.context.password,
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
        files = {"config_file": "postgresql.conf", "hba_file": "pg_hba.conf"}
        flags = [part for name, file in files.items() for part in ("-c", f"{name}={SETTINGS}/{file}")]
        container.with_command(["postgres", *flags])

    def is_ready(self) -> bool:
        """Report whether the service's database answers. The server accepts no connections until the image made it."""
        return answers(self.url)
