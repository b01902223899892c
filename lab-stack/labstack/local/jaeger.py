"""Jaeger as a plain process."""

from __future__ import annotations

from types import MappingProxyType

from labstack import observers, roles
from labstack.local.component import Component
from labstack.local.process import Command
from labstack.paths import CONFIG
from labstack.templates import fill_into
from labstack.web_prefix import base_path

GRPC = "jaeger-grpc"


class Jaeger(roles.Jaeger, Component):
    """What keeps the traces, in memory."""

    ports = MappingProxyType(
        {roles.Jaeger.name: 16686, roles.JAEGER_OTLP: 4318, roles.JAEGER_OTLP_GRPC: 4317, GRPC: 16685}
    )

    def prepare(self) -> Command:
        program = observers.program(self.name, self.site.paths)
        configuration = fill_into(
            CONFIG / self.name / "config.yaml",
            self.site.paths.config(self.name) / "config.yaml",
            {
                "BASE": base_path(self.port) or "/",
                "HTTP": f"127.0.0.1:{self.port}",
                "GRPC": f"127.0.0.1:{self.site.ports[GRPC]}",
                "OTLP_HTTP": f"127.0.0.1:{self.site.ports[roles.JAEGER_OTLP]}",
                "OTLP_GRPC": f"127.0.0.1:{self.site.ports[roles.JAEGER_OTLP_GRPC]}",
            },
        )
        return Command([str(program), "--config", str(configuration)], cwd=self.site.paths.state, env=observers.THRIFT)
