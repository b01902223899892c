"""The settings and fault switches of the services, as far as the stack uses them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from labservices.settings import FAULT_SWITCHES, Settings, parse_fault_switches
from labstack.config.services import FIRST_VERSION
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

    A setting that the lab leaves open, such as ``ORDER_DEADLINE_SECONDS``, keeps its value in the caller's environment.

    Raises
    ------
    LookupError
        The services have no setting of this name.
    """
    environment = {
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "HTTP_HOST": host,
        "HTTP_PORT": str(port),
        "DATASETS_DIR": str(datasets),
        "SERVICE_VERSION": version,
        "TEACHING_SWITCHES": ",".join(written(name, value) for name, value in switches.items()),
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp_endpoint,
        "SPANS_FILE": str(spans_file),
    }
    unknown = {name for name in environment if name.lower() not in Settings.model_fields}
    if unknown:
        raise LookupError(f"labservices.settings.Settings has no {', '.join(sorted(unknown))}")
    open_ones = {name.upper() for name in Settings.model_fields} - set(environment)
    return {**{name: os.environ[name] for name in open_ones if name in os.environ}, **environment}


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
    try:
        parse_fault_switches(written(switch, value))
    except ValueError as error:
        raise LabError(f"The fault switch is invalid: {error}.", next_step=SEE_SWITCHES) from None
    if switch not in FAULT_SWITCHES or "," in value:
        raise LabError(f"{written(switch, value)!r} is not a fault switch.", next_step=SEE_SWITCHES)
