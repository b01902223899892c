"""Grafana, from the official image."""

from __future__ import annotations

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends.docker.component import Component
from labstack.backends.docker.components.jaeger import Jaeger
from labstack.backends.docker.components.prometheus import Prometheus
from labstack.config.web_prefix import base_path
from labstack.observability import grafana

HOME = "/etc/grafana/lab"


class Grafana(interfaces.Grafana, Component):
    """The dashboard server."""

    image_name = "grafana"
    usual_port = 3000
    inner_port = 3000
    timeout = 60

    def configure(self, container: DockerContainer) -> None:
        traces = self.context.ports.get(Jaeger.name)
        base = base_path(traces) if traces else ""
        values = {
            "HOST": "0.0.0.0",
            "PORT": self.inner_port,
            "PUBLISHED": self.port,
            "HOME": HOME,
            "DATA": "/var/lib/grafana",
            "BASE": base_path(self.port),
            "PROMETHEUS": f"http://{Prometheus.name}:{Prometheus.inner_port}",
            "JAEGER": f"http://{Jaeger.name}:{Jaeger.inner_port}{base}" if traces else "",
            "TRACES": base or f"http://127.0.0.1:{traces}",
        }
        for name, text in grafana.files(values).items():
            container.with_copy_into_container(text.encode(), f"{HOME}/{name}", 0o644)
        container.with_envs(GF_PATHS_CONFIG=f"{HOME}/grafana.ini")
