"""The settings of a service, read from environment variables."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class SettingsError(Exception):
    """Settings are missing or invalid; the message names each one by its environment variable."""


@dataclass(frozen=True)
class Switch:
    """A fault switch: makes a service do one thing wrong, to show why the correct way is needed."""

    does: str
    values: str = ""  # a regular expression
    example: str = "on or off"


SWITCHES = {
    "inbox-off": Switch("the inbox lets everything pass, duplicates too"),
    "guards-off": Switch("nothing is remembered per order: each command takes effect, whatever its order has seen"),
    "dual-write": Switch(
        "events are sent to Kafka beside the transaction, not written into the outbox; the process can be made to die "
        "between the two writes",
        "|crash-after-commit|crash-before-commit",
        "on, crash-after-commit or crash-before-commit",
    ),
    "offset-first": Switch("the offset is committed before the event is handled"),
    "slow-handler": Switch(
        "each event takes longer, by so many seconds", r"|[0-7](\.\d{1,3})?", "seconds below 8, such as 0.5"
    ),
    "poison-next": Switch("the next event can't be handled, however often it is tried"),
    "strip-traceparent": Switch("events lose the trace that they belong to"),
}
"""All fault switches; they are off by default."""


class Settings(BaseSettings):
    """The settings of one service process.

    Each setting is read from the environment variable of the same name in capitals (``database_url`` from
    ``DATABASE_URL``).
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: str = Field(
        pattern=r"^postgresql://.+", description="the service's own database: postgresql://user:password@host:port/name"
    )
    kafka_bootstrap_servers: str = Field(
        pattern=r"^[^\s:,]+:\d+(,[^\s:,]+:\d+)*$", description="host:port of a broker, several with commas between"
    )
    datasets_dir: Path = Field(
        description="the folder of the CSV files from which a new database gets its opening data"
    )
    http_host: str = Field(default="127.0.0.1", description="the address that the HTTP API listens on")
    http_port: int | None = Field(
        default=None, ge=1, le=65535, description="the port of the HTTP API (a consumer-only process needs none)"
    )
    otel_exporter_otlp_endpoint: str = Field(
        default="", pattern=r"^(https?://.+)?$", description="where spans go, as OTLP over HTTP; empty for nowhere"
    )
    spans_file: str = Field(default="", description="the file that spans go to while no such endpoint listens")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="how much is logged")
    consumer_session_timeout_ms: int = Field(
        default=3000, ge=1000, description="after so long without a heartbeat the broker gives the partitions to others"
    )
    consumer_heartbeat_interval_ms: int = Field(default=500, ge=100, description="the time between two heartbeats")
    order_deadline_seconds: float = Field(
        default=30.0, gt=0, le=86400, description="an order that is not completed by then is called off"
    )
    service_version: Literal["v1", "v2"] = Field(
        default="v1", description="which of two versions it is, where a service has two: v2 is the canary"
    )
    teaching_switches: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict,
        description="what the lab does wrong on purpose: SWITCH or SWITCH=VALUE, with commas between",
    )

    @field_validator("teaching_switches", mode="before")
    @classmethod
    def _read_switches(cls, value: object) -> object:
        return parse_switches(value) if isinstance(value, str) else value


def parse_switches(text: str) -> dict[str, str]:
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
        if name not in SWITCHES:
            raise ValueError(f"there is no switch {name!r}; there are {', '.join(SWITCHES)}")
        if not re.fullmatch(SWITCHES[name].values, value):
            raise ValueError(f"{name} can't be {value!r}; it can be {SWITCHES[name].example}")
        found[name] = value
    return found


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
    problem = "is missing" if kind == "missing" else f"is bad: {message}"
    return f"{name.upper()} {problem} ({Settings.model_fields[name].description})"
