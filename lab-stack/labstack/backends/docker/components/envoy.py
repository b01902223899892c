"""The gateway's Envoy, from the official image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from testcontainers.core.container import DockerContainer

from labstack.backends import components as roles
from labstack.backends.docker.component import Component, Site
from labstack.backends.docker.components.istiod import DISCOVERY_PORT, Istiod
from labstack.backends.docker.components.jaeger import OTLP_PORT, Jaeger
from labstack.backends.processes.components.envoy import find_envoy
from labstack.config.paths import writable_folder
from labstack.gateway.addresses import GATEWAY_PORT
from labstack.gateway.bootstrap import by_files, by_istiod
from labstack.gateway.xds_folder import XdsFolder
from labstack.istio.documents import Document

if TYPE_CHECKING:
    from labstack.gateway.envoy_files import EnvoyFiles

BOOTSTRAP = "/etc/envoy/lab-bootstrap.yaml"
SEEN_AS = XdsFolder(Path("/etc/envoy/lab"))
"""Mount point of the translator's folder in the container."""

ADMIN_PORT = 9901
STDOUT = "/dev/stdout"


class Envoy(roles.Gateway, Component):
    """The gateway.

    Parameters
    ----------
    site : Site
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
    more_ports = MappingProxyType({roles.ENVOY_ADMIN: (9901, ADMIN_PORT)})

    def __init__(
        self, site: Site, istiod: Istiod | None, configuration: Callable[[], Sequence[Document]], folder: Path
    ) -> None:
        super().__init__(site)
        self.istiod = istiod
        self._configuration = configuration
        self._folder = folder

    @property
    def listens(self) -> tuple[str, int]:
        return "", self.inner_port

    @property
    def files(self) -> EnvoyFiles:
        """The files that Envoy reads when the translator configures it."""
        from labstack.gateway.envoy_files import EnvoyFiles  # Envoy's protobufs take a third of a second

        traces = self._collector is not None
        return EnvoyFiles(XdsFolder(self._folder), STDOUT, find_envoy(), traces=traces, seen_as=SEEN_AS)

    @property
    def _collector(self) -> tuple[str, int] | None:
        """Address at which Jaeger receives spans."""
        return (self.site.address(Jaeger.name), OTLP_PORT) if self.site.has_jaeger else None

    def access_log(self, lines: int) -> str:
        return self.site.log(self.name, lines)

    def configure(self, container: DockerContainer) -> None:
        admin = ("0.0.0.0", ADMIN_PORT)
        if self.istiod:
            text = by_istiod(admin, (self.site.address(self.istiod.name), DISCOVERY_PORT), self._collector)
        else:
            from labstack.istio.translate import translate

            text = by_files(admin, SEEN_AS, self._collector)
            writable_folder(self._folder).chmod(0o755)  # Envoy runs as another user in its container
            self.files.write(self.files.resources(translate(self._configuration())))
            container.with_volume_mapping(str(self._folder), str(SEEN_AS.path), "ro")
        container.with_copy_into_container(text.encode(), BOOTSTRAP, 0o644)
        container.with_command(["envoy", "--config-path", BOOTSTRAP, *roles.ENVOY_OPTIONS])
