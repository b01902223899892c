"""Prometheus, from the official image."""

from __future__ import annotations

from collections.abc import Callable

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends.docker.agent import PORT as AGENT_PORT
from labstack.backends.docker.component import Component, Context
from labstack.backends.docker.components import connect_watcher, envoy
from labstack.backends.docker.files import archive
from labstack.config.templates import fill
from labstack.gateway.addresses import Addresses
from labstack.observability import observers, prometheus

FOLDER = "/etc/prometheus"


class Prometheus(interfaces.Prometheus, Component):
    """The metrics collector.

    Parameters
    ----------
    context : Site
        Ports, network and settings of the lab.
    addresses : callable
        Returns the addresses of the services' instances.
    """

    image_name = "prometheus"
    usual_port = 9090
    inner_port = 9090
    volume = "/prometheus"

    def __init__(self, context: Context, addresses: Callable[[], Addresses]) -> None:
        super().__init__(context)
        self._addresses = addresses

    def settle(self) -> None:
        self.context.put(self.name, FOLDER, archive(prometheus.TARGETS, prometheus.targets(self._addresses())))

    def configure(self, container: DockerContainer) -> None:
        configuration = fill(
            prometheus.FOLDER / "prometheus.yml",
            {
                "RULES": f"{FOLDER}/{prometheus.RULES}",
                "SERVICES": f"{FOLDER}/{prometheus.TARGETS}",
                "GATEWAY": f"{interfaces.Gateway.name}:{envoy.ADMIN_PORT}",
                "RELAY": f"{interfaces.Watcher.name}:{connect_watcher.ConnectWatcher.inner_port}",
                "BROKER": f"{interfaces.Broker.name}:{AGENT_PORT}",
                "WORKER": f"{interfaces.ConnectWorker.name}:{AGENT_PORT}",
                "OWN": f"127.0.0.1:{self.inner_port}",
            },
        )
        files = {"prometheus.yml": configuration, prometheus.TARGETS: prometheus.targets(self._addresses())}
        files |= {path.name: path.read_text(encoding="utf-8") for path in prometheus.FOLDER.glob(prometheus.RULES)}
        for name, text in files.items():
            container.with_copy_into_container(text.encode(), f"{FOLDER}/{name}", 0o644)
        container.with_envs(**observers.GO_SETTINGS)
        container.with_command(
            prometheus.options(f"{FOLDER}/prometheus.yml", self.volume, f"0.0.0.0:{self.inner_port}")
        )
