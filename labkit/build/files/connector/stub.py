"""Returns, step 4: the connector that publishes the outbox."""

import os
import time

import httpx
import psycopg

# Also set: SLOT (the slot's name), and what Connect needs to find the database: DATABASE_HOST, DATABASE_PORT,
# DATABASE_NAME and DATABASE_USER. Connect has this user's password.
DATABASE_URL = os.environ["DATABASE_URL"].replace("postgresql+psycopg://", "postgresql://")
CONNECTOR_URL = f"{os.environ['CONNECT_URL']}/connectors/{os.environ['CONNECTOR']}"


def prepare() -> None:
    """Create the publication and the slot."""
    raise NotImplementedError


def deploy(topic: str, headers: dict[str, str]) -> None:
    """Register the connector, or change it: the events' topic, and their headers (header: column of the outbox)."""
    raise NotImplementedError
