"""The gateway's access log: one JSON object per request, in the format that `lab-stack/istio/mesh.yaml` sets.

`response_flags` describe how Envoy itself affected a response.

Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from labstack.config.paths import ISTIO
from labstack.config.templates import fill

FLAGS = {
    "DC": "the client disconnected",
    "DI": "a fault was injected: a delay",
    "DPE": "the client's request was malformed",
    "FI": "a fault was injected: an abort",
    "LH": "the service failed the health check",
    "LR": "the gateway reset the connection",
    "NC": "the route names a cluster that doesn't exist",
    "NFCF": "a filter's configuration is missing",
    "NR": "no route matches the request",
    "OM": "the gateway is low on memory",
    "RL": "the rate limit rejected the request",
    "SI": "the stream was idle for too long",
    "UAEX": "the authorisation check rejected the request",
    "UC": "the service closed the connection",
    "UF": "no connection to the service",
    "UH": "no healthy endpoint",
    "UMSDR": "the request exceeded the maximum stream duration",
    "UO": "overflow: the circuit breaker is open",
    "UPE": "the service's response was malformed",
    "UR": "the service reset the stream",
    "URX": "all retries are used up",
    "UT": "the service took too long",
}
"""The meaning of each response flag."""


def log_format() -> dict[str, str]:
    """Return the fields of a log line, each with its Envoy command operator."""
    mesh = yaml.safe_load(fill(ISTIO / "mesh.yaml", {"TRACING": "false", "DISCOVERY": "", "ACCESS_LOG": ""}))
    fields: dict[str, str] = json.loads(mesh["accessLogFormat"])
    return fields


def parse_lines(text: str) -> list[dict[str, Any]]:
    """Return the requests in a log, oldest first. Lines that are not access log entries are skipped."""
    entries = []
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # truncated by the requested tail, or still being written
        if "response_flags" in entry:
            entries.append(entry)
    return entries
