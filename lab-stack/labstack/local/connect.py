"""The Kafka Connect worker that runs Debezium."""

from __future__ import annotations

from types import MappingProxyType

from labstack import jmx, roles
from labstack.local.java_component import JavaComponent
from labstack.local.kafka import java_command
from labstack.local.process import Command
from labstack.paths import CONFIG
from labstack.templates import fill_into


class Connect(roles.ConnectWorker, JavaComponent):
    """One worker in distributed mode."""

    ports = MappingProxyType({"connect": 8083, jmx.port_name("connect"): 9405})
    timeout = 60
    grace = 6

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
