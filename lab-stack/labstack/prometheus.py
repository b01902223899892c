"""Prometheus, as both modes start it: its options, and what it asks for metrics."""

from __future__ import annotations

import json

from labstack.mesh.addresses import Addresses
from labstack.paths import CONFIG

FOLDER = CONFIG / "prometheus"
RULES = "*rules.yml"
"""The files of rules, beside the configuration."""

TARGETS = "services.json"
"""The list of the services' instances, which Prometheus reads again whenever it changes."""


def options(configuration: str, data: str, listen: str) -> list[str]:
    """Return the arguments of Prometheus; version 2.42 and newer take them.

    Parameters
    ----------
    configuration : str
        Its ``prometheus.yml``.
    data : str
        Folder of its time series.
    listen : str
        Address and port.
    """
    return [
        f"--config.file={configuration}",
        f"--storage.tsdb.path={data}",
        # A lesson looks back over minutes; a lab that is left running for days must not fill the disk.
        "--storage.tsdb.retention.time=6h",
        "--storage.tsdb.retention.size=512MB",
        # A series whose process is gone is gone within seconds, not minutes: everybody is asked every second.
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
