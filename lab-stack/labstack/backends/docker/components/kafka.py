"""The Kafka broker: one KRaft node, from the official image."""

from __future__ import annotations

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends.docker.agent import add_agent
from labstack.backends.docker.component import Component
from labstack.backends.docker.jvm import java_options
from labstack.config.paths import CONFIG
from labstack.config.templates import fill

CLUSTER_ID = "sagalabsagalabsagalabs"
INNER_PORT = 19092
"""The port for the other containers. Clients on this machine use the published port."""


class Kafka(interfaces.Broker, Component):
    """The broker."""

    image_name = "kafka"
    usual_port = 9092
    inner_port = 9092
    volume = "/var/lib/kafka/data"

    @property
    def inner_address(self) -> str:
        """Bootstrap server for the other containers."""
        return f"{self.name}:{INNER_PORT}"

    def configure(self, container: DockerContainer) -> None:
        properties = fill(
            CONFIG / "kafka" / "server.properties",
            {
                "LISTENERS": f"PLAINTEXT://0.0.0.0:{self.inner_port},INNER://0.0.0.0:{INNER_PORT}",
                "ADVERTISED": f"PLAINTEXT://{self.address},INNER://{self.inner_address}",
                "CONTROLLER_PORT": 9093,
                "DATA": self.volume,
            },
        )
        container.with_copy_into_container(properties.encode(), "/mnt/shared/config/server.properties", 0o644)
        container.with_envs(CLUSTER_ID=CLUSTER_ID, **java_options("kafka"))
        self.remark = add_agent(container, self.context, self.name)
