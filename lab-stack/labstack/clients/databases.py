"""The databases, for both backends: their user and password, their URLs, and a readiness probe."""

from __future__ import annotations

import secrets

import psycopg

from labstack.config.paths import LabPaths, write_atomically

USER = "postgres"


def password(paths: LabPaths) -> str:
    """Return the password of this user's databases, created on first use and readable by the user only."""
    file = paths.cache / "postgres" / "password"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, secrets.token_urlsafe(12))
        file.chmod(0o600)
    return file.read_text(encoding="utf-8")


def database_url(secret: str, host: str, port: int, database: str) -> str:
    """Return the libpq URL of a database."""
    return f"postgresql://{USER}:{secret}@{host}:{port}/{database}"


def answers(url: str) -> bool:
    """Report whether a database answers a query."""
    try:
        with psycopg.connect(url, connect_timeout=1) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
