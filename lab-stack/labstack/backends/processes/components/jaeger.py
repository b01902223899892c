"""Jaeger as a plain process."""

from __future__ import annotations

import contextlib
from types import MappingProxyType

import httpx

from labstack.backends import components as interfaces
from labstack.backends.processes.component import Component
from labstack.backends.processes.process import Command
from labstack.clients import http
from labstack.config.paths import CONFIG
from labstack.config.templates import fill_into
from labstack.config.web_prefix import base_path
from labstack.observability import observers

GRPC = "jaeger-grpc"
JSON_HEADERS = {"Content-Type": "application/json"}


class Jaeger(interfaces.Jaeger, Component):
    """The trace store; it holds traces in memory."""

    ports = MappingProxyType(
        {interfaces.Jaeger.name: 16686, interfaces.JAEGER_OTLP: 4318, interfaces.JAEGER_OTLP_GRPC: 4317, GRPC: 16685}
    )

    def settle(self) -> None:
        """Send Jaeger the spans that services wrote to files while it was unavailable."""
        for file in sorted(self.context.paths.spans("").parent.glob("*.jsonl")):
            # Renamed first, so that a service that still writes opens a new file.
            pending = file.with_suffix(".taken")
            with contextlib.suppress(OSError, httpx.HTTPError):
                file.replace(pending)
                for line in pending.read_bytes().splitlines():
                    http.request("POST", f"{self.otlp_url}/v1/traces", content=line, headers=JSON_HEADERS)
            pending.unlink(missing_ok=True)

    def prepare(self) -> Command:
        program = observers.program(self.name, self.context.paths)
        configuration = fill_into(
            CONFIG / self.name / "config.yaml",
            self.context.paths.config(self.name) / "config.yaml",
            {
                "BASE": base_path(self.port) or "/",
                "HTTP": f"127.0.0.1:{self.port}",
                "GRPC": f"127.0.0.1:{self.context.ports[GRPC]}",
                "OTLP_HTTP": f"127.0.0.1:{self.context.ports[interfaces.JAEGER_OTLP]}",
                "OTLP_GRPC": f"127.0.0.1:{self.context.ports[interfaces.JAEGER_OTLP_GRPC]}",
            },
        )
        return Command(
            [str(program), "--config", str(configuration)], cwd=self.context.paths.state, env=observers.GO_SETTINGS
        )
