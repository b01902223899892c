"""Alertmanager, from the official image."""

from __future__ import annotations

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends.docker.component import Component
from labstack.observability import alertmanager, observers

CONFIGURATION = "/etc/alertmanager/alertmanager.yml"


class Alertmanager(interfaces.Alertmanager, Component):
    """The receiver of Prometheus' alerts."""

    image_name = "alertmanager"
    usual_port = 9094
    inner_port = 9093
    volume = "/alertmanager"

    def configure(self, container: DockerContainer) -> None:
        container.with_copy_into_container(alertmanager.CONFIGURATION.read_bytes(), CONFIGURATION, 0o644)
        container.with_envs(**observers.GO_SETTINGS)
        container.with_command(alertmanager.options(CONFIGURATION, self.volume, f"0.0.0.0:{self.inner_port}"))
