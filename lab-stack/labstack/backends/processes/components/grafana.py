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
            "HOME": home,
            "DATA": data,
            "BASE": base_path(self.port),
            "PROMETHEUS": self._url(interfaces.Prometheus.name),
            "JAEGER": self._url(interfaces.Jaeger.name),
        }
        for name, text in grafana.files(values).items():
            writable_folder((home / name).parent)
            write_atomically(home / name, text)
        # Grafana's own pages and defaults are installed beside the program.
        options = ["server", "--homepath", str(program.resolve().parent.parent), "--config", str(home / "grafana.ini")]
        return Command([str(program), *options], cwd=self.context.paths.state)

    def _url(self, observer: str) -> str:
        """Return the URL of another observer; without that observer, a URL where no server answers."""
        port = self.context.ports.get(observer, 1)
        return f"http://127.0.0.1:{port}{base_path(port) if observer == interfaces.Jaeger.name else ''}"
