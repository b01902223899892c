"""Prometheus as a plain process."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from labstack.backends import components as interfaces
from labstack.backends.processes.component import Component, Context
from labstack.backends.processes.process import Command
from labstack.config.paths import writable_folder, write_atomically
from labstack.config.templates import fill_into
from labstack.gateway.addresses import Addresses
from labstack.observability import jmx, observers, prometheus


class Prometheus(interfaces.Prometheus, Component):
    """The metrics collector.

    Parameters
    ----------
    context : Site
        Folders, ports and settings of the lab.
    addresses : callable
        Returns the addresses of the services' instances.
    """

    ports = MappingProxyType({interfaces.Prometheus.name: 9090})

    def __init__(self, context: Context, addresses: Callable[[], Addresses]) -> None:
        super().__init__(context)
        self._addresses = addresses
        self._home = context.paths.config(self.name)

    def settle(self) -> None:
        write_atomically(self._home / prometheus.TARGETS, prometheus.targets(self._addresses()))

    def prepare(self) -> Command:
        program = observers.program(self.name, self.context.paths)
        ports = self.context.ports
        writable_folder(self._home)
        self.settle()
        configuration = fill_into(
            prometheus.FOLDER / "prometheus.yml",
            self._home / "prometheus.yml",
            {
                "RULES": prometheus.FOLDER / prometheus.RULES,
                "SERVICES": self._home / prometheus.TARGETS,
                "GATEWAY": f"127.0.0.1:{ports[interfaces.ENVOY_ADMIN]}",
                "RELAY": f"127.0.0.1:{ports[interfaces.Watcher.name]}",
                "BROKER": f"127.0.0.1:{ports[jmx.port_name(interfaces.Broker.name)]}",
                "WORKER": f"127.0.0.1:{ports[jmx.port_name(interfaces.ConnectWorker.name)]}",
                "OWN": f"127.0.0.1:{self.port}",
            },
        )
        data = self.context.paths.data(self.name)
        options = prometheus.options(str(configuration), str(data), f"127.0.0.1:{self.port}")
        return Command([str(program), *options], cwd=self.context.paths.state, env=observers.GO_SETTINGS)
