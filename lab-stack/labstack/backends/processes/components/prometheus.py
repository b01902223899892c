"""Prometheus as a plain process."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from labstack.backends import components as roles
from labstack.backends.processes.component import Component, Site
from labstack.backends.processes.process import Command
from labstack.config.paths import writable_folder, write_atomically
from labstack.config.templates import fill_into
from labstack.gateway.addresses import Addresses
from labstack.observability import jmx, observers, prometheus


class Prometheus(roles.Prometheus, Component):
    """The metrics collector.

    Parameters
    ----------
    site : Site
        Folders, ports and settings of the lab.
    addresses : callable
        Returns the addresses of the services' instances.
    """

    ports = MappingProxyType({roles.Prometheus.name: 9090})

    def __init__(self, site: Site, addresses: Callable[[], Addresses]) -> None:
        super().__init__(site)
        self._addresses = addresses
        self._home = site.paths.config(self.name)

    def settle(self) -> None:
        write_atomically(self._home / prometheus.TARGETS, prometheus.targets(self._addresses()))

    def prepare(self) -> Command:
        program = observers.program(self.name, self.site.paths)
        ports = self.site.ports
        writable_folder(self._home)
        self.settle()
        configuration = fill_into(
            prometheus.FOLDER / "prometheus.yml",
            self._home / "prometheus.yml",
            {
                "RULES": prometheus.FOLDER / prometheus.RULES,
                "SERVICES": self._home / prometheus.TARGETS,
                "GATEWAY": f"127.0.0.1:{ports[roles.ENVOY_ADMIN]}",
                "RELAY": f"127.0.0.1:{ports[roles.Watcher.name]}",
                "BROKER": f"127.0.0.1:{ports[jmx.port_name(roles.Broker.name)]}",
                "WORKER": f"127.0.0.1:{ports[jmx.port_name(roles.ConnectWorker.name)]}",
                "OWN": f"127.0.0.1:{self.port}",
            },
        )
        data = self.site.paths.data(self.name)
        options = prometheus.options(str(configuration), str(data), f"127.0.0.1:{self.port}")
        return Command([str(program), *options], cwd=self.site.paths.state, env=observers.THRIFT)
