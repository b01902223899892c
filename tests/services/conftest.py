"""A PostgreSQL server for the session, with a database for each service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from labservices.telemetry import tracing
from tests.services.postgres import PostgresServer, postgres_server
from tests.services.world import DATASETS, SERVICES, World


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """Run one PostgreSQL server, shared by all tests that do not stop it."""
    with postgres_server() as running:
        yield running


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write small datasets that cover every case."""
    folder = tmp_path_factory.mktemp("datasets")
    for name, content in DATASETS.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def _world(server: PostgresServer, datasets: Path) -> Iterator[World]:
    tracing.set_up("tests")
    world = World({service.name: server.create_database(service.name) for service in SERVICES}, datasets)
    yield world
    world.close()


@pytest.fixture
def world(_world: World) -> World:
    """Return the four services with their opening data."""
    _world.reset()
    return _world
