"""All that the stack knows of the services: their settings, by name."""

from __future__ import annotations

from pathlib import Path

from labservices.settings import Settings


def service_environment(*, database_url: str, kafka: str, port: int, datasets: Path) -> dict[str, str]:
    """Return the environment that starts a service with these settings; names that services don't know are an error."""
    environment = {
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": str(port),
        "DATASETS_DIR": str(datasets),
    }
    unknown = {name for name in environment if name.lower() not in Settings.model_fields}
    if unknown:
        raise LookupError(f"labservices.settings.Settings has no {', '.join(sorted(unknown))}")
    return environment
