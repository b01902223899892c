"""The Kafka Connect worker that runs Debezium."""

from __future__ import annotations

from types import MappingProxyType

from labstack import roles
from labstack.local.component import Component, Site
from labstack.local.kafka import java_command
from labstack.local.process import Command
from labstack.paths import CONFIG
from labstack.templates import fill_into


class Connect(roles.ConnectWorker, Component):
    """One worker in distributed mode.

    Parameters
    ----------
    site : Site
        Where the lab runs.
    java_extra : tuple of str
        More flags for Java, such as those of a training run.
    """

    ports = MappingProxyType({"connect": 8083})
    timeout = 60
    grace = 6

    def __init__(self, site: Site, java_extra: tuple[str, ...] = (), archived: bool = True) -> None:
        super().__init__(site)
        self._java_extra = java_extra
        self._archived = archived

    def prepare(self) -> Command:
        properties = fill_into(
            CONFIG / "connect" / "connect-distributed.properties",
            self.site.paths.config(self.name) / "connect-distributed.properties",
            {
                "KAFKA": f"127.0.0.1:{self.site.ports['kafka']}",
                "LISTEN": "127.0.0.1",
                "ADVERTISED": "127.0.0.1",
                "PORT": self.port,
            },
        )
        return java_command(
            self.site.paths,
            self.name,
            "org.apache.kafka.connect.cli.ConnectDistributed",
            str(properties),
            extra=self._java_extra,
            archived=self._archived,
        )
