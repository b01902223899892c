"""The path and the host names under which a browser reaches the ports of this machine, on a hub and elsewhere.

Jaeger's and Grafana's pages use links from the root of the host, so both programs must know their public path. A hub,
including Binder's, passes each server its path in an environment variable. On a laptop there is none, and the browser
opens the pages directly.
"""

from __future__ import annotations

import os

from labservices.origins import parse_hosts

VARIABLE = "JUPYTERHUB_SERVICE_PREFIX"


def base_path(port: int) -> str:
    """Return the path at which jupyter-server-proxy serves a port, without a trailing slash; empty without a hub."""
    prefix = os.environ.get(VARIABLE, "").rstrip("/")
    return f"{prefix}/proxy/absolute/{port}" if prefix else ""


def allowed_hosts() -> tuple[str, ...]:
    """Return the host names, besides those of this machine, that requests to the lab's servers may name.

    Behind a hub, every name: its proxy passes on the hub's own name, and only the proxy reaches the ports.
    """
    return ("*",) if os.environ.get(VARIABLE) else parse_hosts(os.environ.get("LAB_ALLOWED_HOSTS", ""))
