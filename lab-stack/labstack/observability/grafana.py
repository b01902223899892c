"""Grafana's configuration with the lab's addresses, for both backends."""

from __future__ import annotations

from collections.abc import Mapping

from labstack.config.paths import CONFIG
from labstack.config.templates import fill

FOLDER = CONFIG / "grafana"
TEMPLATES = ("grafana.ini", "provisioning/datasources/lab.yaml", "provisioning/dashboards/lab.yaml")


def files(values: Mapping[str, object]) -> dict[str, str]:
    """Return Grafana's configuration files, by path in their folder.

    Parameters
    ----------
    values : mapping
        ``HOST`` and ``PORT`` to listen on; ``HOME``, the folder of these files; ``DATA``, the folder of Grafana's data;
        ``PROMETHEUS`` and ``JAEGER``, the URLs of these.
    """
    filled = {name: fill(FOLDER / name, dict(values)) for name in TEMPLATES}
    dashboards = sorted((FOLDER / "dashboards").glob("*.json"))
    return filled | {f"dashboards/{path.name}": path.read_text(encoding="utf-8") for path in dashboards}
