"""The options and scrape targets of Prometheus, shared by all backends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from labstack.config.paths import CONFIG, LabPaths
from labstack.gateway.addresses import Addresses

FOLDER = CONFIG / "prometheus"
RULES = "*rules.yml"
"""Glob pattern of the rule files, beside the configuration."""

OWN_RULES = "own.rules.yml"
"""The rule file of `lab.extensions.rules`; it matches `RULES`."""

TARGETS = "services.json"
"""The list of service instances; Prometheus rereads it whenever it changes."""

ALERTMANAGERS = "alertmanagers.json"
"""The list of Alertmanagers, empty if the lab has none; Prometheus rereads it whenever it changes."""


def promtool(paths: LabPaths) -> Path | None:
    """Return Prometheus' own tool, which tests rules on artificial series; None if it is missing."""
    from labstack.install import find_program

    found = find_program("prometheus", paths)
    beside = found.path.parent / "promtool" if found else None
    on_path = shutil.which("promtool")
    return beside if beside and beside.exists() else Path(on_path) if on_path else None


def options(configuration: str, data: str, listen: str) -> list[str]:
    """Return the command-line arguments of Prometheus 2.42 or newer.

    Parameters
    ----------
    configuration : str
        Path of ``prometheus.yml``.
    data : str
        Folder of the time series.
    listen : str
        Address and port.
    """
    return [
        f"--config.file={configuration}",
        f"--storage.tsdb.path={data}",
        # A lesson needs the last few minutes; a lab that runs for days must not fill the disk.
        "--storage.tsdb.retention.time=6h",
        "--storage.tsdb.retention.size=512MB",
        # Targets are scraped every second, so the series of a stopped process can expire in seconds instead of minutes.
        "--query.lookback-delta=10s",
        f"--web.listen-address={listen}",
        # By default, Prometheus lets every web page read its answers.
        r"--web.cors.origin=https?://(localhost|127\.0\.0\.1)(:[0-9]+)?",
        "--enable-feature=exemplar-storage",
        # By default, a restarted Alertmanager receives an alert that still fires only after a minute.
        "--rules.alert.resend-delay=10s",
        "--log.level=warn",
    ]


def discovery(addresses: Addresses, alertmanager: str) -> dict[str, str]:
    """Return the files of Prometheus' file-based service discovery: content by name.

    Source: Prometheus' manual, "Configuration", ``<file_sd_config>``.

    Parameters
    ----------
    addresses : Addresses
        The services' instances, which Prometheus scrapes.
    alertmanager : str
        Address and port of the Alertmanager to which Prometheus sends alerts; empty for none.
    """
    groups = [
        {
            "targets": [f"{instance.address}:{instance.port}"],
            "labels": {"service": service, "version": instance.version},
        }
        for service, instances in addresses.instances.items()
        for instance in instances
    ]
    alertmanagers = [{"targets": [alertmanager]}] if alertmanager else []
    return {TARGETS: json.dumps(groups, indent=1), ALERTMANAGERS: json.dumps(alertmanagers)}
