"""Grafana, as both modes start it: its configuration with the lab's addresses in it."""

from __future__ import annotations

from collections.abc import Mapping

from labstack.paths import CONFIG
from labstack.templates import fill

FOLDER = CONFIG / "grafana"
TEMPLATES = ("grafana.ini", "provisioning/datasources/lab.yaml", "provisioning/dashboards/lab.yaml")


def files(values: Mapping[str, object]) -> dict[str, str]:
    """Return the files of a home of Grafana's configuration, by their names in it.

    Parameters
    ----------
    values : mapping
        ``HOST`` and ``PORT`` to listen on; ``HOME``, the folder that these files lie in; ``DATA``, the folder of its
        own; ``PROMETHEUS`` and ``JAEGER``, where it finds these.
    """
    filled = {name: fill(FOLDER / name, dict(values)) for name in TEMPLATES}
    dashboards = sorted((FOLDER / "dashboards").glob("*.json"))
    return filled | {f"dashboards/{path.name}": path.read_text(encoding="utf-8") for path in dashboards}
