"""Envoy's administration interface: its configuration and its statistics.

Source: https://www.envoyproxy.io/docs/envoy/latest/operations/admin
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from labstack.clients import http
from labstack.errors import LabError, NotRunning

SECTIONS = {
    "ClustersConfigDump": ("clusters", ("dynamic_active_clusters",), "cluster"),
    "ListenersConfigDump": ("listeners", ("dynamic_listeners",), "listener"),
    "RoutesConfigDump": ("routes", ("dynamic_route_configs",), "route_config"),
    "EndpointsConfigDump": ("endpoints", ("dynamic_endpoint_configs", "static_endpoint_configs"), "endpoint_config"),
}
"""For each section of a config dump: its short name, its lists, and the key of the resource in a list entry."""

ADMIN = "admin"
"""Name of the listener through which the interface is reached (`lab-stack/envoy/bootstrap.yaml`)."""

AGENT_PORTS = (15021, 15090)
"""Ports of the listeners that Istio's agent adds on a cluster, for probes and for metrics."""


@dataclass(frozen=True)
class Versions:
    """Envoy's version of each kind of configuration (empty if it has none), and the number of rejected updates."""

    clusters: str = ""
    listeners: str = ""
    routes: dict[str, str] = field(default_factory=dict)
    rejected: int = 0


class EnvoyAdmin:
    """The administration interface of one Envoy.

    Parameters
    ----------
    url : str
        URL of the interface.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def _get(self, path: str, **parameters: str) -> httpx.Response:
        try:
            answer = http.get(f"{self.url}{path}", timeout=5, params=parameters)
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise LabError(
                f"Envoy rejects the request {path} with {parameters}: {error.response.text.strip()[:200]}",
                next_step="correct the pattern: Envoy uses RE2, which has no look-around and no back-references",
            ) from None
        except httpx.HTTPError as error:
            raise NotRunning(
                f"Envoy does not answer at {self.url}{path}: {error}.", next_step="run `lab start envoy`"
            ) from error
        return answer

    def listens(self) -> bool:
        """Report whether Envoy has a configuration with a listener and is ready. Does not raise an error.

        The bootstrap's own listeners, for this interface, probes and metrics, do not count.

        A successful connection to its port proves less: Docker accepts it even if no process listens in the container.
        """
        try:
            statuses = self._get("/listeners", format="json").json().get("listener_statuses")
        except (LabError, ValueError):
            return False
        return any(_serves_clients(status) for status in statuses or ()) and http.answers(f"{self.url}/ready")

    def versions(self) -> Versions:
        """Return the versions of the configuration that Envoy has accepted, and the number of rejected updates."""
        clusters = listeners = ""
        routes: dict[str, str] = {}
        rejected = 0
        pattern = r"(cds|lds|rds\..*)\.(version_text|update_rejected)$"
        for line in self._get("/stats", filter=pattern).text.splitlines():
            name, _, value = line.partition(": ")
            value = value.strip('"')
            if name.endswith(".update_rejected"):
                rejected += int(value)
            elif name == "cluster_manager.cds.version_text":
                clusters = value
            elif name == "listener_manager.lds.version_text":
                listeners = value
            elif ".rds." in name:
                routes[name.split(".rds.", 1)[1].removesuffix(".version_text")] = value
        return Versions(clusters, listeners, routes, rejected)

    def statistics(self, pattern: str) -> dict[str, int]:
        """Return the counters and gauges whose names match a regular expression."""
        answer = self._get("/stats", format="json", filter=pattern).json()
        return {one["name"]: one["value"] for one in answer["stats"] if isinstance(one.get("value"), int)}

    def warming(self) -> int:
        """Return the number of clusters that are known but not yet usable."""
        return sum(self.statistics(r"^cluster_manager\.warming_clusters$").values())

    def configuration(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return Envoy's clusters, endpoints, listeners and routes, each by name, in protobuf's JSON."""
        found: dict[str, dict[str, dict[str, Any]]] = {short: {} for short, *_ in SECTIONS.values()}
        for section in self._get("/config_dump", include_eds="").json()["configs"]:
            kind = section["@type"].rsplit(".", 1)[-1]
            if kind not in SECTIONS:
                continue
            short, lists, inner = SECTIONS[kind]
            for entry in (entry for name in lists for entry in section.get(name, ())):
                # A listener is in `active_state`, or in `warming_state` before it becomes active.
                holder = entry.get("active_state") or entry.get("warming_state") or entry
                if resource := holder.get(inner):
                    clean = {key: value for key, value in resource.items() if key != "@type"}
                    found[short][clean.get("name") or clean.get("cluster_name", "")] = clean
        return found


def _serves_clients(status: dict[str, Any]) -> bool:
    port = status.get("local_address", {}).get("socket_address", {}).get("port_value")
    return status.get("name") != ADMIN and port not in AGENT_PORTS
