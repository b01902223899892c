"""The Kafka Connect worker that runs Debezium."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from labstack.backends import components as interfaces
from labstack.backends.processes.components.kafka import java_command
from labstack.backends.processes.java.java_component import JavaComponent
from labstack.backends.processes.process import Command
from labstack.clients.database_server import write_private
from labstack.config.paths import CONFIG
from labstack.config.templates import fill_into
from labstack.observability import jmx


class Connect(interfaces.ConnectWorker, JavaComponent):
    """One worker in distributed mode."""

    ports = MappingProxyType({"connect": 8083, jmx.port_name("connect"): 9405})
    timeout = 120
    grace = 6

    def prepare(self) -> Command:
        properties = fill_into(
            CONFIG / "connect" / "connect-distributed.properties",
            self.context.paths.config(self.name) / "connect-distributed.properties",
            {
                "KAFKA": f"127.0.0.1:{self.context.ports['kafka']}",
                "LISTEN": "127.0.0.1",
                "ADVERTISED": "127.0.0.1",
                "PORT": self.port,
            },
        )
        command = java_command(
            self.context.paths,
            self.name,
            "org.apache.kafka.connect.cli.ConnectDistributed",
            self.context.paths.relative(properties),
            extra=self._java_extra,
            archived=self._archived,
        )
        passwords = self.context.paths.config(self.name) / "pgpass"
        write_private(passwords, "".join(database.server.relay_login for database in self.databases))
        return replace(command, timer_slack=interfaces.CONNECT_TIMER_SLACK, env={"PGPASSFILE": str(passwords)})
