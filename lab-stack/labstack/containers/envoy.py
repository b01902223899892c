"""The gateway's Envoy, from the official image."""

from __future__ import annotations

from types import MappingProxyType

from testcontainers.core.container import DockerContainer

from labstack import roles
from labstack.containers.component import Component, Site
from labstack.containers.istiod import DISCOVERY_PORT, Istiod
from labstack.containers.jaeger import OTLP_PORT, Jaeger
from labstack.mesh.addresses import GATEWAY_PORT
from labstack.mesh.bootstrap import by_istiod

BOOTSTRAP = "/etc/envoy/lab-bootstrap.yaml"
ADMIN_PORT = 9901


class Envoy(roles.Gateway, Component):
    """The gateway.

    Parameters
    ----------
    site : Site
        Where the lab runs.
    istiod : Istiod
        What steers it.
    """

    image_name = "envoy"
    usual_port = 8080
    inner_port = GATEWAY_PORT
    more_ports = MappingProxyType({roles.ENVOY_ADMIN: (9901, ADMIN_PORT)})

    def __init__(self, site: Site, istiod: Istiod) -> None:
        super().__init__(site)
        self.istiod = istiod

    @property
    def listens(self) -> tuple[str, int]:
        return "", self.inner_port

    def access_log(self, lines: int) -> str:
        return self.site.log(self.name, lines)

    def configure(self, container: DockerContainer) -> None:
        text = by_istiod(
            ("0.0.0.0", ADMIN_PORT),
            (self.site.address(self.istiod.name), DISCOVERY_PORT),
            (self.site.address(Jaeger.name), OTLP_PORT) if self.site.has_jaeger else None,
        )
        container.with_copy_into_container(text.encode(), BOOTSTRAP, 0o644)
        container.with_command(["envoy", "--config-path", BOOTSTRAP, *roles.ENVOY_OPTIONS])
