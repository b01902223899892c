"""Prometheus as a plain process."""

from __future__ import annotations

from types import MappingProxyType

from labstack.backends import components as interfaces
from labstack.backends.processes.component import Component, Context
from labstack.backends.processes.process import Command
from labstack.config.paths import writable_folder, write_atomically
from labstack.config.templates import fill_into
from labstack.observability import jmx, observers, prometheus


class Prometheus(interfaces.Prometheus, Component):
    """The metrics collector."""

    ports = MappingProxyType({interfaces.Prometheus.name: 9090})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._home = context.paths.config(self.name)

    def settle(self) -> None:
        has_alertmanager = interfaces.Alertmanager.name in self.context.observers
        alertmanager = f"127.0.0.1:{self.context.ports[interfaces.Alertmanager.name]}" if has_alertmanager else ""
        for name, text in prometheus.discovery(self.context.addresses(), alertmanager).items():
            write_atomically(self._home / name, text)

    def put_rules(self, text: str) -> None:
        write_atomically(self._home / prometheus.OWN_RULES, text)

    def prepare(self) -> Command:
        program = observers.program(self.name, self.context.paths)
        ports = self.context.ports
        writable_folder(self._home)
        self.settle()
        self.put_rules("")
        for rules in prometheus.FOLDER.glob(prometheus.RULES):
            write_atomically(self._home / rules.name, rules.read_text(encoding="utf-8"))
        configuration = fill_into(
            prometheus.FOLDER / "prometheus.yml",
            self._home / "prometheus.yml",
            {
                "RULES": prometheus.RULES,  # relative to the configuration
                "SERVICES": prometheus.TARGETS,
                "ALERTMANAGERS": prometheus.ALERTMANAGERS,
                "GATEWAY": f"127.0.0.1:{ports[interfaces.ENVOY_ADMIN]}",
                "RELAY": f"127.0.0.1:{ports[interfaces.Watcher.name]}",
                "BROKER": f"127.0.0.1:{ports[jmx.port_name(interfaces.Broker.name)]}",
                "WORKER": f"127.0.0.1:{ports[jmx.port_name(interfaces.ConnectWorker.name)]}",
                "OWN": f"127.0.0.1:{self.port}",
            },
        )
        paths = self.context.paths
        configured, data = paths.relative(configuration), paths.relative(paths.data(self.name))
        options = prometheus.options(configured, data, f"127.0.0.1:{self.port}")
        return Command([str(program), *options], cwd=self.context.paths.state, env=observers.GO_SETTINGS)
