"""The options and scrape targets of Prometheus, shared by all backends."""

from __future__ import annotations

import json

from labstack.config.paths import CONFIG
from labstack.gateway.addresses import Addresses

FOLDER = CONFIG / "prometheus"
RULES = "*rules.yml"
"""Glob pattern of the rule files, beside the configuration."""

TARGETS = "services.json"
"""The list of service instances; Prometheus rereads it whenever it changes."""


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
        "--web.enable-lifecycle",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]


def targets(addresses: Addresses) -> str:
    """Return the services' instances in the format of Prometheus' file-based service discovery.

    Source: Prometheus' manual, "Configuration", ``<file_sd_config>``.
    """
    groups = [
        {
            "targets": [f"{instance.address}:{instance.port}"],
            "labels": {"service": service, "version": instance.version},
        }
        for service, instances in addresses.instances.items()
        for instance in instances
    ]
    return json.dumps(groups, indent=1)
