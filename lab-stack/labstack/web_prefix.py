"""Below which path a hub shows what listens on this machine.

Jaeger's and Grafana's pages name their parts from the root of the host, so they must know where they are seen. A hub,
Binder's too, tells each of its servers its own path; on a laptop there is none, and the pages are opened directly.
"""

from __future__ import annotations

import os

VARIABLE = "JUPYTERHUB_SERVICE_PREFIX"


def base_path(port: int) -> str:
    """Return the path at which jupyter-server-proxy shows a port, without a slash at its end; empty without a hub."""
    prefix = os.environ.get(VARIABLE, "").rstrip("/")
    return f"{prefix}/proxy/absolute/{port}" if prefix else ""
