"""A service of the shop in a container of the image built from ``labservices/``."""

from __future__ import annotations

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends.docker.component import Component, Context
from labstack.backends.docker.components.jaeger import OTLP_PORT, Jaeger
from labstack.backends.docker.components.kafka import Kafka
from labstack.backends.docker.components.postgres import Postgres
from labstack.backends.docker.images import services_image
from labstack.config.services import FIRST_VERSION, ServiceEntry, instance_name
from labstack.config.settings import service_environment


class Service(interfaces.ShopService, Component):
    """One of the four services.

    Parameters
    ----------
    context : Context
        Ports, network and settings of the lab.
    service : ServiceEntry
        The service to run.
    database : Postgres
        The service's database.
    kafka : Kafka
        The broker.
    version : str
        Version of the service.
    """

    inner_port = 8000
    spans_file = "/tmp/spans.jsonl"

    def __init__(
        self, context: Context, service: ServiceEntry, database: Postgres, kafka: Kafka, version: str = FIRST_VERSION
    ) -> None:
        super().__init__(context)
        self.service = service
        self.database = database
        self.kafka = kafka
        self.version = version
        self.name = instance_name(service, version)
        self.optional = version != FIRST_VERSION
        self.usual_port = service.versions.get(version, service.port)

    @property
    def upstream_address(self) -> tuple[str, int]:
        """Address and port of the service's container."""
        return self.context.address(self.name), self.inner_port

    @property
    def image(self) -> str:
        return services_image()

    def configure(self, container: DockerContainer) -> None:
        container.with_command([self.service.name])
        container.with_envs(
            **service_environment(
                database_url=self.database.inner_server.url(self.service.name),
                kafka=self.kafka.inner_address,
                host="0.0.0.0",
                port=self.inner_port,
                datasets="/app/datasets",
                version=self.version,
                switches=self.context.switches.get(self.service.name, {}),
                **self.context.span_settings(
                    f"http://{Jaeger.name}:{OTLP_PORT}" if self.context.has_jaeger else "", self.spans_file
                ),
            )
        )
