"""istiod as a plain process, without Kubernetes: it reads its configuration from a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import httpx

from labstack.backends import components as interfaces
from labstack.backends.processes.component import Component, Context
from labstack.backends.processes.process import Command
from labstack.clients import http
from labstack.config.paths import ISTIO, writable_folder, write_atomically
from labstack.config.templates import fill_into
from labstack.gateway import istiod
from labstack.install import find_program

if TYPE_CHECKING:
    from labstack.istio.documents import Document

DISCOVERY = "istiod-discovery"
MONITORING = "istiod-monitoring"


class Istiod(interfaces.ControlPlane, Component):
    """The control plane.

    Parameters
    ----------
    context : Context
        Folders, ports and settings of the lab.
    configuration : callable
        Returns the documents that apply on this machine.
    """

    ports = MappingProxyType({interfaces.ControlPlane.name: 15080, DISCOVERY: 15010, MONITORING: 15014})

    def __init__(self, context: Context, configuration: Callable[[], Sequence[Document]]) -> None:
        super().__init__(context)
        self._configuration = configuration
        self._home = context.paths.config(self.name)
        self._folder = self._home / "resources"

    @property
    def discovery_port(self) -> int:
        """The port from which Envoy fetches its configuration."""
        return self.context.ports[DISCOVERY]

    def configuration(self) -> str:
        return istiod.configuration(self._configuration())

    def write_configuration(self, configuration: str) -> None:
        writable_folder(self._folder)
        # Written beside the folder, then moved into it: istiod never reads a partial file.
        complete = self._home / "in-force.yaml"
        write_atomically(complete, configuration)
        complete.replace(self._folder / complete.name)

    def listing(self, path: str) -> str:
        try:
            return http.get(f"{self.url}{path}", timeout=2).text
        except httpx.HTTPError:
            return ""

    def prepare(self) -> Command:
        program = find_program(self.name, self.context.paths)
        if program is None:
            raise istiod.missing()
        writable_folder(self._folder)
        for before in self._folder.iterdir():
            before.unlink()
        mesh = fill_into(
            ISTIO / "mesh.yaml",
            self._home / "mesh.yaml",
            {
                "TRACING": str(self.context.has_jaeger).lower(),
                "DISCOVERY": f"127.0.0.1:{self.discovery_port}",
                "ACCESS_LOG": self.context.paths.relative(self.context.paths.log("envoy-access")),
            },
        )
        options = istiod.options(
            folder=str(self._folder),
            mesh=str(mesh),
            discovery=f"127.0.0.1:{self.discovery_port}",
            http=f"127.0.0.1:{self.port}",
            monitoring=f"127.0.0.1:{self.context.ports[MONITORING]}",
        )
        return Command([str(program.path), *options], cwd=self.context.paths.state, env=istiod.ENVIRONMENT)
