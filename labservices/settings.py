"""What a service is told from outside, by environment variables."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(Exception):
    """A setting is missing or bad; the message names each by its environment variable."""


class Settings(BaseSettings):
    """The settings of one service process.

    Each is read from the environment variable of the same name in capitals (``database_url`` from ``DATABASE_URL``).
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
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="how much is logged")
    consumer_session_timeout_ms: int = Field(
        default=3000, ge=1000, description="after so long without a heartbeat the broker gives the partitions to others"
    )
    consumer_heartbeat_interval_ms: int = Field(default=500, ge=100, description="the time between two heartbeats")


def read_settings() -> Settings:
    """Read the settings from the environment.

    Raises
    ------
    SettingsError
        When one is missing or bad.
    """
    try:
        return Settings()  # type: ignore[call-arg]  # the environment gives the arguments
    except ValidationError as error:
        raise SettingsError(
            "\n".join(_explain(one["loc"][0], one["type"], one["msg"]) for one in error.errors())
        ) from None


def _explain(field: int | str, kind: str, message: str) -> str:
    name = str(field)
    problem = "is missing" if kind == "missing" else f"is bad: {message}"
    return f"{name.upper()} {problem} ({Settings.model_fields[name].description})"
