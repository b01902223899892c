"""Settings of the Connect watcher (`lab-stack/connect/watcher.py`), which restarts failed connectors."""

from __future__ import annotations

import json
from collections.abc import Mapping

from labstack.clients.relay import connector_name
from labstack.config.paths import CONFIG

NAME = "connect-watcher"
USUAL_PORT = 8084
PROGRAM = CONFIG / "connect" / "watcher.py"


def environment(connect_url: str, databases: Mapping[str, str], host: str, port: int) -> dict[str, str]:
    """Return the environment variables of the watcher.

    Parameters
    ----------
    connect_url : str
        URL of Connect's REST API.
    databases : mapping
        libpq URL by service.
    host, port
        Address on which the watcher listens.
    """
    return {
        "CONNECT_URL": connect_url,
        "DATABASES": json.dumps({connector_name(service): url for service, url in databases.items()}),
        "HTTP_HOST": host,
        "HTTP_PORT": str(port),
    }
