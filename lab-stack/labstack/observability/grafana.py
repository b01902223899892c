"""Grafana's configuration with the lab's addresses, for both backends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labstack.config.paths import CONFIG
from labstack.config.templates import fill
from labstack.errors import ProgramMissing

FOLDER = CONFIG / "grafana"
DATA_SOURCES = "provisioning/datasources/lab.yaml"
TEMPLATES = ("grafana.ini", DATA_SOURCES, "provisioning/dashboards/lab.yaml")


def files(values: Mapping[str, object]) -> dict[str, str]:
    """Return Grafana's configuration files, by path in their folder.

    Parameters
    ----------
    values : mapping
        ``HOST`` and ``PORT`` to listen on; ``PUBLISHED``, the port that a browser uses; ``BASE``, the path of a hub;
        ``HOME``, the folder of these files; ``DATA``, the folder of Grafana's data; ``PROMETHEUS`` and ``JAEGER``, the
        URLs of these for Grafana; ``TRACES``, the URL of Jaeger's pages for a browser. Both of Jaeger's are empty if
        the lab has no Jaeger.
    """
    filled = {name: fill(FOLDER / name, dict(values)) for name in TEMPLATES}
    if not values["JAEGER"]:
        filled[DATA_SOURCES] = _without_jaeger(filled[DATA_SOURCES])
    dashboards = sorted((FOLDER / "dashboards").glob("*.json"))
    return filled | {f"dashboards/{path.name}": path.read_text(encoding="utf-8") for path in dashboards}


def _without_jaeger(data_sources: str) -> str:
    import yaml

    document = yaml.safe_load(data_sources)
    document["datasources"] = [source for source in document["datasources"] if source["type"] != "jaeger"]
    for source in document["datasources"]:
        source.get("jsonData", {}).pop("exemplarTraceIdDestinations", None)
    return str(yaml.safe_dump(document, sort_keys=False))


def home(program: Path) -> Path:
    """Return the folder of Grafana's own pages and defaults, which depends on how Grafana was installed.

    Parameters
    ----------
    program : Path
        Grafana's program: in ``bin`` of a release archive, in ``/usr/sbin`` of a Debian or RPM package, or in ``bin``
        of Homebrew's folder.

    Raises
    ------
    ProgramMissing
        No folder contains ``conf/defaults.ini``.
    """
    prefix = program.resolve().parent.parent
    candidates = (prefix, prefix / "share" / "grafana", Path("/usr/share/grafana"))
    for folder in candidates:
        if (folder / "conf" / "defaults.ini").is_file():
            return folder
    raise ProgramMissing(
        f"Grafana's program is {program}, but its pages are in none of {', '.join(map(str, candidates))}.",
        next_step="install Grafana from its release archive: `lab install grafana`",
    )
