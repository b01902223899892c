"""Prometheus, from the official image."""

from __future__ import annotations

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends.docker.agent import PORT as AGENT_PORT
from labstack.backends.docker.component import Component
from labstack.backends.docker.components import connect_watcher, envoy
from labstack.backends.docker.components.alertmanager import Alertmanager
from labstack.backends.docker.files import archive
from labstack.config.templates import fill
from labstack.observability import observers, prometheus

FOLDER = "/etc/prometheus"


class Prometheus(interfaces.Prometheus, Component):
    """The metrics collector."""

    image_name = "prometheus"
    usual_port = 9090
    inner_port = 9090
    volume = "/prometheus"

    def settle(self) -> None:
        for name, text in self._discovery().items():
            self.context.put(self.name, FOLDER, archive(name, text))

    def _discovery(self) -> dict[str, str]:
        has_alertmanager = Alertmanager.name in self.context.observers
        alertmanager = f"{Alertmanager.name}:{Alertmanager.inner_port}" if has_alertmanager else ""
        return prometheus.discovery(self.context.addresses(), alertmanager)

    def put_rules(self, text: str) -> None:
        self.context.put(self.name, FOLDER, archive(prometheus.OWN_RULES, text))

    def configure(self, container: DockerContainer) -> None:
        configuration = fill(
            prometheus.FOLDER / "prometheus.yml",
            {
                "RULES": f"{FOLDER}/{prometheus.RULES}",
                "SERVICES": f"{FOLDER}/{prometheus.TARGETS}",
                "ALERTMANAGERS": f"{FOLDER}/{prometheus.ALERTMANAGERS}",
                "GATEWAY": f"{interfaces.Gateway.name}:{envoy.ADMIN_PORT}",
                "RELAY": f"{interfaces.Watcher.name}:{connect_watcher.ConnectWatcher.inner_port}",
                "BROKER": f"{interfaces.Broker.name}:{AGENT_PORT}",
                "WORKER": f"{interfaces.ConnectWorker.name}:{AGENT_PORT}",
                "OWN": f"127.0.0.1:{self.inner_port}",
            },
        )
        files = {"prometheus.yml": configuration, **self._discovery()}
        files |= {path.name: path.read_text(encoding="utf-8") for path in prometheus.FOLDER.glob(prometheus.RULES)}
        for name, text in files.items():
            container.with_copy_into_container(text.encode(), f"{FOLDER}/{name}", 0o644)
        container.with_envs(**observers.GO_SETTINGS)
        container.with_command(
            prometheus.options(f"{FOLDER}/prometheus.yml", self.volume, f"0.0.0.0:{self.inner_port}")
        )
