"""The settings and fault switches of the services, as far as the stack uses them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from labstack.config.services import FIRST_VERSION
from labstack.config.web_prefix import allowed_hosts
from labstack.errors import LabError

SEE_SWITCHES = "run `lab switch list` to see the fault switches and their values"


def service_environment(
    *,
    database_url: str,
    kafka: str,
    port: int,
    datasets: Path | str,
    host: str = "127.0.0.1",
    version: str = FIRST_VERSION,
    switches: Mapping[str, str] = MappingProxyType({}),
    otlp_endpoint: str = "",
    spans_file: Path | str = "",
) -> dict[str, str]:
    """Return the environment variables that start a service with these settings.

    A setting that the lab leaves open, such as ``LAB_ORDER_DEADLINE_SECONDS``, keeps its value in the caller's
    environment.

    Raises
    ------
    LookupError
        The lab sets a variable for which the services have no setting.
    """
    from labservices.settings import Settings, variable  # pydantic's import takes a third of `lab status`

    own = {
        "database_url": database_url,
        "kafka_bootstrap_servers": kafka,
        "http_host": host,
        "http_port": str(port),
        "datasets_dir": str(datasets),
        "service_version": version,
        "teaching_switches": ",".join(written(name, value) for name, value in switches.items()),
        "otlp_endpoint": otlp_endpoint,
        "spans_file": str(spans_file),
        **({"allowed_hosts": ",".join(hosts)} if (hosts := allowed_hosts()) else {}),
    }
    if unknown := set(own) - set(Settings.model_fields):
        raise LookupError(f"labservices.settings.Settings has no {', '.join(sorted(unknown))}")
    left_open = (variable(name) for name in Settings.model_fields if name not in own)
    return {
        **{name: os.environ[name] for name in left_open if os.environ.get(name)},
        **{variable(name): value for name, value in own.items()},
    }


def written(switch: str, value: str) -> str:
    """Return a fault switch and its value in the format that the services read."""
    return f"{switch}={value}" if value else switch


def checked_switch(switch: str, value: str = "") -> None:
    """Validate a fault switch and its value.

    Raises
    ------
    LabError
        The services don't have the switch, or it does not accept the value.
    """
    from labservices.settings import FAULT_SWITCHES, parse_fault_switches

    try:
        parse_fault_switches(written(switch, value))
    except ValueError as error:
        raise LabError(f"The fault switch is invalid: {error}.", next_step=SEE_SWITCHES) from None
    if switch not in FAULT_SWITCHES or "," in value:
        raise LabError(f"{written(switch, value)!r} is not a fault switch.", next_step=SEE_SWITCHES)
