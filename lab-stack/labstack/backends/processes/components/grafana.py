"""Grafana as a plain process, where it is installed."""

from __future__ import annotations

from types import MappingProxyType

from labstack.backends import components as interfaces
from labstack.backends.processes.component import Component
from labstack.backends.processes.process import Command
from labstack.config.paths import writable_folder, write_atomically
from labstack.config.web_prefix import base_path
from labstack.observability import grafana, observers


class Grafana(interfaces.Grafana, Component):
    """The dashboard server."""

    ports = MappingProxyType({interfaces.Grafana.name: 3000})

    def prepare(self) -> Command:
        program = observers.program(self.name, self.context.paths)
        home, data = self.context.paths.config(self.name), self.context.paths.data(self.name)
        values = {
            "HOST": "127.0.0.1",
            "PORT": self.port,
            "PUBLISHED": self.port,
            "HOME": home,
            "DATA": data,
            "BASE": base_path(self.port),
            "PROMETHEUS": self._url(interfaces.Prometheus.name),
            "JAEGER": self._url(interfaces.Jaeger.name),
            "TRACES": self._url(interfaces.Jaeger.name, page=True),
        }
        for name, text in grafana.files(values).items():
            writable_folder((home / name).parent)
            write_atomically(home / name, text)
        options = ["server", "--homepath", str(grafana.home(program)), "--config", str(home / "grafana.ini")]
        return Command([str(program), *options], cwd=self.context.paths.state)

    def _url(self, observer: str, *, page: bool = False) -> str:
        """Return the URL of an observer, or of its pages as a browser reaches them; empty without that observer."""
        port = self.context.ports.get(observer)
        if port is None:
            return ""
        base = base_path(port) if observer == interfaces.Jaeger.name else ""
        return base if page and base else f"http://127.0.0.1:{port}{base}"
