"""The gateway's access log: one JSON object for each request, as `lab-stack/istio/mesh.yaml` says.

`response_flags` tell what Envoy itself had to do with an answer: https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from labstack.mesh.store import ISTIO
from labstack.templates import fill

FLAGS = {
    "DC": "the client went away",
    "DI": "a fault was injected: a delay",
    "DPE": "the client's request was malformed",
    "FI": "a fault was injected: an abort",
    "LH": "the service failed the health check",
    "LR": "the gateway reset the connection",
    "NC": "the route names a cluster that isn't there",
    "NFCF": "a filter's configuration is missing",
    "NR": "no route matches the request",
    "OM": "the gateway is short of memory",
    "RL": "the rate limit refused it",
    "SI": "the stream was idle for too long",
    "UAEX": "the authorisation refused it",
    "UC": "the service closed the connection",
    "UF": "no connection to the service",
    "UH": "no healthy endpoint",
    "UMSDR": "the request took longer than its stream may",
    "UO": "overflow: the circuit breaker is open",
    "UPE": "the service's answer was malformed",
    "UR": "the service reset the stream",
    "URX": "all retries are used up",
    "UT": "the service took too long",
}
"""What each response flag means."""


def log_format() -> dict[str, str]:
    """Return the fields of a line, each with Envoy's command for it."""
    mesh = yaml.safe_load(fill(ISTIO / "mesh.yaml", {"TRACING": "false", "DISCOVERY": "", "ACCESS_LOG": ""}))
    fields: dict[str, str] = json.loads(mesh["accessLogFormat"])
    return fields


def parse_lines(text: str) -> list[dict[str, Any]]:
    """Return the requests that stand in a log, oldest first; a line that is none of its own is left out."""
    entries = []
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut off by the end that was asked for, or still being written
        if "response_flags" in entry:
            entries.append(entry)
    return entries
