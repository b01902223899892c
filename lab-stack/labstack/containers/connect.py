"""The Kafka Connect worker that runs Debezium, from Debezium's official image."""

from __future__ import annotations

from testcontainers.core.container import DockerContainer

from labstack import roles
from labstack.containers.agent import add_agent
from labstack.containers.component import Component, Site
from labstack.containers.jvm import java_options
from labstack.containers.kafka import Kafka
from labstack.paths import CONFIG
from labstack.templates import fill

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
"""Properties that the image takes by variables of their own, whose defaults would win over ``CONNECT_...``."""
ARCHIVE = "/kafka/logs"
"""One of the image's volumes, where its user may write."""


class Connect(roles.ConnectWorker, Component):
    """One worker in distributed mode.

    Parameters
    ----------
    site : Site
        Where the lab runs.
    kafka : Kafka
        Its broker.
    """

    image_name = "connect"
    usual_port = 8083
    inner_port = 8083
    # The worker gives up at once where the broker's name is unknown, as it is while the broker's container is down.
    after = ("kafka",)
    restarts = True
    timeout = 90
    # When it ends for the first time, Java writes down which classes it has loaded.
    grace = 20
    shared_volume = ARCHIVE

    def __init__(self, site: Site, kafka: Kafka) -> None:
        super().__init__(site)
        self.kafka = kafka

    @property
    def inner_url(self) -> str:
        """Its REST interface, for the other containers."""
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
        # Java makes no archive of classes while an agent looks on.
        archive = "" if self.site.has_prometheus else f"{ARCHIVE}/classes.jsa"
        container.with_envs(**worker_variables(properties), **java_options("connect", archive))
        self.remark = add_agent(container, self.site, self.name)


def worker_variables(properties: str) -> dict[str, str]:
    """Write a worker's properties as the variables that Debezium's image takes.

    Source: the image's documentation, "Environment variables".
    """
    lines = [line for line in properties.splitlines() if "=" in line and not line.startswith("#")]
    variables = {}
    for name, _, value in (line.partition("=") for line in lines):
        variables[OWN_NAMES.get(name, f"CONNECT_{name.upper().replace('.', '_')}")] = value
    return variables
