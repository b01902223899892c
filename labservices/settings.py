"""The settings of a service, read from environment variables."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from labservices.origins import parse_hosts

PREFIX = "LAB_"
"""Prefix of the settings' environment variables: general names such as ``LOG_LEVEL`` belong to other programs."""


class SettingsError(Exception):
    """Settings are missing or invalid; the message names each one by its environment variable."""


@dataclass(frozen=True)
class FaultSwitch:
    """A fault switch: it makes a service misbehave in one way, to show why the correct code is needed."""

    does: str
    values: str = ""  # a regular expression
    example: str = "no value"


FAULT_SWITCHES = {
    "inbox-off": FaultSwitch("the inbox accepts every event, including duplicates"),
    "guards-off": FaultSwitch("each command takes effect, even if the service has already handled its order"),
    "dual-write": FaultSwitch(
        "events are sent directly to Kafka, outside the transaction, instead of being written to the outbox; "
        "optionally, the process crashes between the two writes",
        "|crash-after-commit|crash-before-commit",
        "no value, crash-after-commit or crash-before-commit",
    ),
    "offset-first": FaultSwitch("the consumer commits the offset before it handles the event"),
    "slow-handler": FaultSwitch(
        "each event takes longer by the given number of seconds", r"|[0-7](\.\d{1,3})?", "seconds below 8, such as 0.5"
    ),
    "poison-next": FaultSwitch("the next event fails on every attempt"),
    "strip-traceparent": FaultSwitch("published events lose their trace context"),
}
"""All fault switches; they are off by default."""


class Settings(BaseSettings):
    """The settings of one service process.

    Each setting is read from the environment variable of the same name in capitals, with a prefix (``database_url``
    from ``LAB_DATABASE_URL``). An empty variable counts as not set.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix=PREFIX, env_ignore_empty=True)

    database_url: str = Field(
        pattern=r"^postgresql://.+", description="the service's own database: postgresql://user:password@host:port/name"
    )
    kafka_bootstrap_servers: str = Field(
        pattern=r"^[^\s:,]+:\d+(,[^\s:,]+:\d+)*$", description="host:port of one or more brokers, separated by commas"
    )
    datasets_dir: Path = Field(
        description="the folder with the CSV files from which a new database loads its opening data"
    )
    http_host: str = Field(default="127.0.0.1", description="the address that the HTTP API listens on")
    http_port: int | None = Field(
        default=None, ge=1, le=65535, description="the port of the HTTP API (not used by a consumer-only process)"
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="further host names that requests to the HTTP API may use, separated by commas; `*` for all",
    )
    otlp_endpoint: str = Field(
        default="",
        pattern=r"^(https?://.+)?$",
        description="the collector that receives spans as OTLP over HTTP; empty for none",
    )
    spans_file: str = Field(default="", description="the file to which spans are written while no collector listens")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the lowest level that is logged"
    )
    consumer_session_timeout_ms: int = Field(
        default=3000,
        ge=1000,
        description="milliseconds without a heartbeat after which the broker reassigns the partitions",
    )
    consumer_heartbeat_interval_ms: int = Field(default=500, ge=100, description="milliseconds between two heartbeats")
    order_deadline_seconds: float = Field(
        default=30.0, gt=0, le=86400, description="seconds after which an order that is not completed times out"
    )
    service_version: Literal["v1", "v2"] = Field(
        default="v1", description="the version of a service that has two versions; v2 is the canary"
    )
    teaching_switches: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict,
        description="the fault switches that are on: SWITCH or SWITCH=VALUE, separated by commas",
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _accept_capitals(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("teaching_switches", mode="before")
    @classmethod
    def _read_switches(cls, value: object) -> object:
        return parse_fault_switches(value) if isinstance(value, str) else value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _read_hosts(cls, value: object) -> object:
        return parse_hosts(value) if isinstance(value, str) else value


def parse_fault_switches(text: str) -> dict[str, str]:
    """Parse a comma-separated list of ``SWITCH`` or ``SWITCH=VALUE``.

    Returns
    -------
    dict
        The value of each switch by its name; the value may be empty.

    Raises
    ------
    ValueError
        If a switch does not exist or does not accept the value.
    """
    found = {}
    for one in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = one.partition("=")
        if name not in FAULT_SWITCHES:
            raise ValueError(f"unknown switch {name!r}; the switches are {', '.join(FAULT_SWITCHES)}")
        if not re.fullmatch(FAULT_SWITCHES[name].values, value):
            raise ValueError(f"{name} does not accept {value!r}; it accepts {FAULT_SWITCHES[name].example}")
        found[name] = value
    return found


def variable(setting: str) -> str:
    """Return the environment variable of a setting: ``LAB_LOG_LEVEL`` for ``log_level``."""
    return PREFIX + setting.upper()


def read_settings() -> Settings:
    """Read the settings from the environment.

    Raises
    ------
    SettingsError
        If a setting is missing or invalid.
    """
    try:
        return Settings()  # type: ignore[call-arg]  # the arguments are read from the environment
    except ValidationError as error:
        raise SettingsError(
            "\n".join(_explain(one["loc"][0], one["type"], one["msg"]) for one in error.errors())
        ) from None


def _explain(field: int | str, kind: str, message: str) -> str:
    name = str(field)
    problem = "is missing" if kind == "missing" else f"is invalid: {message}"
    return f"{variable(name)} {problem} ({Settings.model_fields[name].description})"
