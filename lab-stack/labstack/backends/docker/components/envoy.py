"""The gateway's Envoy, from the official image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends.docker.component import Component, Context
from labstack.backends.docker.components.istiod import DISCOVERY_PORT, Istiod
from labstack.backends.docker.components.jaeger import OTLP_PORT, Jaeger
from labstack.backends.processes.components.envoy import find_envoy
from labstack.config.paths import writable_folder
from labstack.errors import ProgramMissing
from labstack.gateway.addresses import GATEWAY_PORT
from labstack.gateway.bootstrap import Administration, by_files, by_istiod
from labstack.gateway.xds_folder import XdsFolder

if TYPE_CHECKING:
    from labstack.gateway.envoy_files import EnvoyFiles
    from labstack.istio.documents import Document

BOOTSTRAP = "/etc/envoy/lab-bootstrap.yaml"
ENVOY_FOLDER = XdsFolder(Path("/etc/envoy/lab"))
"""Mount point of the translator's folder in the container."""

ADMIN_PORT = 9901
ADMIN_SOCKET = "/tmp/envoy-admin.sock"
"""Envoy's administration interface, in a folder that Envoy's user can write in every image."""

STDOUT = "/dev/stdout"


class Envoy(interfaces.Gateway, Component):
    """The gateway.

    Parameters
    ----------
    context : Context
        Ports, network and settings of the lab.
    istiod : Istiod, optional
        The control plane that configures Envoy. Without it, Envoy reads the translator's files.
    configuration : callable
        Returns the documents that apply.
    folder : Path
        Folder of the translator's files on this machine.
    """

    image_name = "envoy"
    usual_port = 8080
    inner_port = GATEWAY_PORT
    more_ports = MappingProxyType({interfaces.ENVOY_ADMIN: (9901, ADMIN_PORT)})

    def __init__(
        self, context: Context, istiod: Istiod | None, configuration: Callable[[], Sequence[Document]], folder: Path
    ) -> None:
        super().__init__(context)
        self.istiod = istiod
        self._configuration = configuration
        self._folder = folder

    @property
    def bind_address(self) -> tuple[str, int]:
        return "", self.inner_port

    @property
    def files(self) -> EnvoyFiles:
        """The files that Envoy reads when the translator configures it."""
        from labstack.gateway.envoy_files import EnvoyFiles  # Envoy's protobufs take a third of a second

        traces = self._collector is not None
        envoy = None
        with contextlib.suppress(ProgramMissing):  # this machine may have no Envoy: the container has one
            envoy = find_envoy()
        return EnvoyFiles(XdsFolder(self._folder), STDOUT, envoy, traces=traces, envoy_folder=ENVOY_FOLDER)

    @property
    def _collector(self) -> tuple[str, int] | None:
        """Address at which Jaeger receives spans."""
        return (self.context.address(Jaeger.name), OTLP_PORT) if self.context.has_jaeger else None

    def access_log(self, lines: int) -> str:
        return self.context.log(self.name, lines)

    def configure(self, container: DockerContainer) -> None:
        admin = Administration(ADMIN_SOCKET, "0.0.0.0", ADMIN_PORT)
        if self.istiod:
            text = by_istiod(admin, (self.context.address(self.istiod.name), DISCOVERY_PORT), self._collector)
        else:
            from labstack.istio.translate import translate

            text = by_files(admin, ENVOY_FOLDER, self._collector)
            writable_folder(self._folder).chmod(0o755)  # Envoy runs as another user in its container
            self.files.write(self.files.resources(translate(self._configuration())))
            container.with_volume_mapping(str(self._folder), str(ENVOY_FOLDER.path), "ro")
        container.with_copy_into_container(text.encode(), BOOTSTRAP, 0o644)
        container.with_command(["envoy", "--config-path", BOOTSTRAP, *interfaces.ENVOY_OPTIONS])
