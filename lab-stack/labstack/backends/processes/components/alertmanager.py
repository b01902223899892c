"""Alertmanager as a plain process."""

from __future__ import annotations

from types import MappingProxyType

from labstack.backends import components as interfaces
from labstack.backends.processes.component import Component
from labstack.backends.processes.process import Command
from labstack.config.paths import writable_folder, write_atomically
from labstack.observability import alertmanager, observers


class Alertmanager(interfaces.Alertmanager, Component):
    """The receiver of Prometheus' alerts."""

    ports = MappingProxyType({interfaces.Alertmanager.name: 9094})  # 9093, the usual one, is Kafka's controller

    def prepare(self) -> Command:
        paths = self.context.paths
        program = observers.program(self.name, paths)
        data = writable_folder(paths.data(self.name))
        configuration = writable_folder(paths.config(self.name)) / alertmanager.CONFIGURATION.name
        write_atomically(configuration, alertmanager.CONFIGURATION.read_text(encoding="utf-8"))
        options = alertmanager.options(paths.relative(configuration), paths.relative(data), f"127.0.0.1:{self.port}")
        return Command([str(program), *options], cwd=paths.state, env=observers.GO_SETTINGS)
