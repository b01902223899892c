"""istiod, from the official image, without Kubernetes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends.docker.component import Component, Context
from labstack.backends.docker.files import archive
from labstack.config.paths import ISTIO
from labstack.config.templates import fill
from labstack.gateway import istiod

if TYPE_CHECKING:
    from labstack.istio.documents import Document

DISCOVERY_PORT = 15010
FOLDER = "/etc/istio/lab/resources"
MESH = "/etc/istio/lab/mesh.yaml"
STDOUT = "/dev/stdout"


class Istiod(interfaces.ControlPlane, Component):
    """The control plane.

    Parameters
    ----------
    context : Context
        Ports, network and settings of the lab.
    configuration : callable
        Returns the documents that apply on this machine.
    """

    image_name = "istiod"
    usual_port = 15080
    inner_port = 15080

    def __init__(self, context: Context, configuration: Callable[[], Sequence[Document]]) -> None:
        super().__init__(context)
        self._configuration = configuration

    def configuration(self) -> str:
        return istiod.configuration(self._configuration())

    def write_configuration(self, configuration: str) -> None:
        self.context.put(self.name, FOLDER, archive("in-force.yaml", configuration))

    def listing(self, path: str) -> str:
        return self.context.run(self.name, ["pilot-discovery", "request", "GET", path])

    def configure(self, container: DockerContainer) -> None:
        values: dict[str, object] = {
            "TRACING": str(self.context.has_jaeger).lower(),
            "DISCOVERY": f"{self.name}:{DISCOVERY_PORT}",
            "ACCESS_LOG": STDOUT,
        }
        container.with_copy_into_container(fill(ISTIO / "mesh.yaml", values).encode(), MESH, 0o644)
        # The folder must exist when istiod starts.
        container.with_copy_into_container(b"", f"{FOLDER}/README", 0o644)
        container.with_envs(**istiod.ENVIRONMENT)
        container.with_command(
            istiod.options(
                folder=FOLDER,
                mesh=MESH,
                discovery=f"0.0.0.0:{DISCOVERY_PORT}",
                http=f"0.0.0.0:{self.inner_port}",
                monitoring="127.0.0.1:15014",
            )
        )
