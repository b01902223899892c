"""Environment and command line of istiod without Kubernetes, for processes and containers.

Source: https://istio.io/latest/docs/reference/commands/pilot-discovery/
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import TYPE_CHECKING

from labstack.config.versions import VERSIONS
from labstack.errors import ProgramMissing

if TYPE_CHECKING:
    from labstack.istio.documents import Document

VERSION: str = VERSIONS["programs"]["istiod"]["version"]

ENVIRONMENT = MappingProxyType(
    {
        # No certificates, and no filters that exist only in Istio's own build of Envoy.
        "ENABLE_CA_SERVER": "false",
        "PILOT_CERT_PROVIDER": "none",
        "PILOT_ENABLE_METADATA_EXCHANGE": "false",
        "PILOT_ENABLE_ALPN_FILTER": "false",
        # Envoy's configuration is then identical to the translator's.
        "PILOT_ENABLE_TELEMETRY_LABEL": "false",
        # Apply a learner's edit at once, not after the 100 ms for which a cluster collects changes.
        "PILOT_DEBOUNCE_AFTER": "10ms",
        "POD_NAMESPACE": "istio-system",
    }
)

RESOURCES, SERVICES = "/debug/configz", "/debug/registryz"
"""Paths that list the loaded resources and the known services. istiod serves them only to its machine or container."""

REFUSAL = "unable to reload file configuration"
"""Log message of istiod when it rejects a configuration and keeps the previous one."""


def configuration(documents: Iterable[Document]) -> str:
    """Return istiod's input as one YAML text: the documents in force and the limits of requests."""
    from labstack.gateway.limits import envoy_filter  # Envoy's protobufs take a third of a second
    from labstack.gateway.store import dump

    return dump([*documents, envoy_filter()])


def options(*, folder: str, mesh: str, discovery: str, http: str, monitoring: str) -> list[str]:
    """Return istiod's command line.

    Parameters
    ----------
    folder : str
        Folder from which istiod reads resources.
    mesh : str
        Path of the mesh configuration file.
    discovery, http, monitoring : str
        Addresses (``host:port``) of the discovery service (gRPC), the debug interface and the metrics.
    """
    return [
        "discovery",
        "--registries=",
        f"--configDir={folder}",
        f"--meshConfig={mesh}",
        "--clusterID=lab",
        f"--grpcAddr={discovery}",
        f"--httpAddr={http}",
        "--httpsAddr=",
        "--secureGRPCAddr=",
        f"--monitoringAddr={monitoring}",
        # Anyone can stop istiod through its ControlZ interface. No option disables it, but an address for documentation
        # (RFC 5737) belongs to no machine, so istiod logs that it can't listen there and continues.
        "--ctrlz_address=192.0.2.1",
    ]


def missing() -> ProgramMissing:
    """Return the error that explains how to install istiod."""
    return ProgramMissing(
        "istiod is not installed on this machine.",
        next_step="install it with `lab install istiod`, or use the lab's translator as the control plane "
        "(LAB_CONTROL_PLANE=translator)",
    )
