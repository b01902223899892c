"""Jaeger, from the official image."""

from __future__ import annotations

from types import MappingProxyType

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends.docker.component import Component
from labstack.config.paths import CONFIG
from labstack.config.templates import fill
from labstack.config.web_prefix import base_path
from labstack.observability import observers

CONFIGURATION = "/etc/jaeger/lab.yaml"
OTLP_PORT = 4318
OTLP_GRPC_PORT = 4317


class Jaeger(interfaces.Jaeger, Component):
    """The trace store; it holds traces in memory."""

    image_name = "jaeger"
    usual_port = 16686
    inner_port = 16686
    more_ports = MappingProxyType(
        {interfaces.JAEGER_OTLP: (4318, OTLP_PORT), interfaces.JAEGER_OTLP_GRPC: (4317, OTLP_GRPC_PORT)}
    )

    def configure(self, container: DockerContainer) -> None:
        configuration = fill(
            CONFIG / self.name / "config.yaml",
            {
                "BASE": base_path(self.port) or "/",
                "HTTP": f"0.0.0.0:{self.inner_port}",
                "GRPC": "127.0.0.1:16685",
                "OTLP_HTTP": f"0.0.0.0:{OTLP_PORT}",
                "OTLP_GRPC": f"0.0.0.0:{OTLP_GRPC_PORT}",
            },
        )
        container.with_copy_into_container(configuration.encode(), CONFIGURATION, 0o644)
        container.with_envs(**observers.GO_SETTINGS)
        container.with_command(["--config", CONFIGURATION])
