"""The Kafka Connect worker that runs Debezium, from Debezium's official image."""

from __future__ import annotations

from collections.abc import Sequence

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends.docker.agent import add_agent
from labstack.backends.docker.component import Component, Context
from labstack.backends.docker.components.kafka import Kafka
from labstack.backends.docker.components.postgres import Postgres
from labstack.backends.docker.jvm import java_options
from labstack.config.paths import CONFIG
from labstack.config.templates import fill

OWN_NAMES = {
    "bootstrap.servers": "BOOTSTRAP_SERVERS",
    "group.id": "GROUP_ID",
    "config.storage.topic": "CONFIG_STORAGE_TOPIC",
    "offset.storage.topic": "OFFSET_STORAGE_TOPIC",
    "status.storage.topic": "STATUS_STORAGE_TOPIC",
    "key.converter": "KEY_CONVERTER",
    "value.converter": "VALUE_CONVERTER",
    "offset.flush.interval.ms": "OFFSET_FLUSH_INTERVAL_MS",
    "task.shutdown.graceful.timeout.ms": "SHUTDOWN_TIMEOUT",
    "rest.advertised.host.name": "ADVERTISED_HOST_NAME",
    "rest.advertised.port": "ADVERTISED_PORT",
}
"""Properties with dedicated environment variables in the image. Their defaults would override ``CONNECT_...``."""
PASSWORDS = "/etc/saga-lab/pgpass"
"""The relay's passwords. PostgreSQL's driver reads them, so no connector's configuration has a password."""
ARCHIVE = "/kafka/logs"
"""One of the image's volumes, writable for the image's user."""


WITH_TIMER_SLACK = (
    f'echo {interfaces.CONNECT_TIMER_SLACK} 2>/dev/null >/proc/self/timerslack_ns; exec /docker-entrypoint.sh "$@"'
)
"""Shell command that sets the timer slack of the shell, which Java inherits, and then does what the image does."""


class Connect(interfaces.ConnectWorker, Component):
    """One worker in distributed mode.

    Parameters
    ----------
    context : Context
        Ports, network and settings of the lab.
    kafka : Kafka
        The broker of the worker.
    """

    image_name = "connect"
    databases: Sequence[Postgres] = ()
    usual_port = 8083
    inner_port = 8083
    entry_point = ("sh", "-c", WITH_TIMER_SLACK, "connect")
    restarts = True
    timeout = 150
    # At its first shutdown, Java writes the class-data archive.
    grace = 20
    shared_volume = ARCHIVE

    def __init__(self, context: Context, kafka: Kafka) -> None:
        super().__init__(context)
        self.kafka = kafka

    @property
    def inner_url(self) -> str:
        """URL of the REST interface for the other containers."""
        return f"http://{self.name}:{self.inner_port}"

    def configure(self, container: DockerContainer) -> None:
        properties = fill(
            CONFIG / "connect" / "connect-distributed.properties",
            {
                "KAFKA": self.kafka.inner_address,
                "LISTEN": "0.0.0.0",
                "ADVERTISED": self.name,
                "PORT": self.inner_port,
            },
        )
        container.with_command(["start"])
        # Java builds no class-data archive while an agent is loaded.
        archive = "" if self.context.has_prometheus else f"{ARCHIVE}/classes.jsa"
        passwords = "".join(database.inner_server.relay_login for database in self.databases)
        container.with_copy_into_container(passwords.encode(), PASSWORDS, 0o644)
        container.with_envs(PGPASSFILE=PASSWORDS, **worker_variables(properties), **java_options("connect", archive))
        self.remark = add_agent(container, self.context, self.name)


def worker_variables(properties: str) -> dict[str, str]:
    """Return a worker's properties as environment variables of Debezium's image.

    Source: the image's documentation, "Environment variables".
    """
    lines = [line for line in properties.splitlines() if "=" in line and not line.startswith("#")]
    variables = {}
    for name, _, value in (line.partition("=") for line in lines):
        variables[OWN_NAMES.get(name, f"CONNECT_{name.upper().replace('.', '_')}")] = value
    return variables
