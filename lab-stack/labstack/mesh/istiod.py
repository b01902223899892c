"""How istiod runs without Kubernetes, in either mode.

Source: https://istio.io/latest/docs/reference/commands/pilot-discovery/
"""

from __future__ import annotations

from types import MappingProxyType

from labstack.errors import ProgramMissing
from labstack.versions import VERSIONS

VERSION: str = VERSIONS["programs"]["istiod"]["version"]

ENVIRONMENT = MappingProxyType(
    {
        # No certificates, and no filters that only Istio's own build of Envoy has.
        "ENABLE_CA_SERVER": "false",
        "PILOT_CERT_PROVIDER": "none",
        "PILOT_ENABLE_METADATA_EXCHANGE": "false",
        "PILOT_ENABLE_ALPN_FILTER": "false",
        # Envoy then has what the translator makes, to the letter.
        "PILOT_ENABLE_TELEMETRY_LABEL": "false",
        # A learner's edit acts at once, not after the 100 ms in which a cluster gathers changes.
        "PILOT_DEBOUNCE_AFTER": "10ms",
        "POD_NAMESPACE": "istio-system",
    }
)

RESOURCES, SERVICES = "/debug/configz", "/debug/registryz"
"""Where it lists what it has read, and the services that it knows; only for who asks from its machine or container."""

REFUSAL = "unable to reload file configuration"
"""What its log says when it goes on with what it had."""


def options(*, folder: str, mesh: str, discovery: str, http: str, monitoring: str) -> list[str]:
    """Return its command line.

    Parameters
    ----------
    folder : str
        Where it reads resources from.
    mesh : str
        The file of its mesh configuration.
    discovery, http, monitoring : str
        Addresses, ``host:port``, of the discovery service (gRPC), of the debug interface, and of its metrics.
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
        "--ctrlz_port=0",
    ]


def missing() -> ProgramMissing:
    """Return the error that says how to get istiod."""
    return ProgramMissing(
        "istiod is not on this machine.",
        next_step="`lab install istiod` gets it; without it the lab's translator steers the gateway "
        "(LAB_CONTROL_PLANE=translator)",
    )
