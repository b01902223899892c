"""The path below which a JupyterHub serves the ports of this machine.

Jaeger's and Grafana's pages use links from the root of the host, so both programs must know their public path. A hub,
including Binder's, passes each server its path in an environment variable. On a laptop there is none, and the browser
opens the pages directly.
"""

from __future__ import annotations

import os

VARIABLE = "JUPYTERHUB_SERVICE_PREFIX"


def base_path(port: int) -> str:
    """Return the path at which jupyter-server-proxy serves a port, without a trailing slash; empty without a hub."""
    prefix = os.environ.get(VARIABLE, "").rstrip("/")
    return f"{prefix}/proxy/absolute/{port}" if prefix else ""
