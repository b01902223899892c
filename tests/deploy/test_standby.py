"""The watcher keeps the relay's slot on the standby of a real PostgreSQL, even after a switchover."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from labstack.clients import http
from labstack.config.paths import CONFIG
from labstack.waiting import wait_until
from tests.deploy.rendering import of_kind
from tests.services.ports import free_port
from tests.services.postgres import PostgresServer

PHYSICAL = "standby"
SETTINGS = {
    "sync_replication_slots": "on",
    "hot_standby_feedback": "on",
    "primary_slot_name": PHYSICAL,
    "recovery_target_timeline": "latest",
}


@pytest.fixture
def pair() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """Yield a primary with the chart's slot, and its standby."""
    folder = Path(tempfile.mkdtemp(prefix="saga-lab-test-"))
    servers: list[PostgresServer] = []
    try:
        servers.append(PostgresServer(folder / "one"))
        servers[0].settings.update(SETTINGS)
        servers[0].start()
        servers.append(PostgresServer(folder / "two", primary=servers[0]))
        execute(servers[0], f"SELECT pg_create_physical_replication_slot('{PHYSICAL}', true)")
        execute(servers[0], of_kind("ConfigMap")["order-db-setup"]["data"]["slot.sql"])
        for role in of_kind("Cluster")["order-db"]["spec"]["managed"]["roles"]:
            execute(servers[0], f'CREATE ROLE "{role["name"]}" LOGIN {"REPLICATION" if role["replication"] else ""}')
        servers[1].follow(servers[0])
        servers[1].settings.update(SETTINGS)
        servers[1].start()
        yield servers[0], servers[1]
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder)


def execute(server: PostgresServer, query: str) -> list[tuple[Any, ...]]:
    """Run a query, and return its rows."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def role_for_standbys() -> str:
    """Return the role that the chart's watcher uses on a standby."""
    container = of_kind("Deployment")["connect-watcher"]["spec"]["template"]["spec"]["containers"][0]
    (standbys,) = [json.loads(one["value"]) for one in container["env"] if one["name"] == "STANDBYS"]
    return urlsplit(standbys["order-outbox"]).username or ""


@contextmanager
def watcher(primary: PostgresServer, standby: PostgresServer) -> Iterator[str]:
    """Run the watcher beside two servers, without Connect. Yield the URL of its metrics."""
    port, connect = free_port(), free_port()
    environment = {
        "CONNECT_URL": f"http://127.0.0.1:{connect}",
        "DATABASES": json.dumps({"order-outbox": primary.url("postgres")}),
        "STANDBYS": json.dumps(
            {"order-outbox": standby.url("postgres").replace("postgres@", f"{role_for_standbys()}@")}
        ),
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": str(port),
    }
    with subprocess.Popen([sys.executable, CONFIG / "connect" / "watcher.py"], env=environment) as process:
        try:
            yield f"http://127.0.0.1:{port}/metrics"
        finally:
            process.terminate()


def is_copied(url: str, primary: PostgresServer) -> bool:
    """Return whether the watcher reports a complete copy, while the slot's position moves as under a reader."""
    execute(primary, "SELECT pg_logical_emit_message(false, 'test', '')")
    execute(primary, "SELECT pg_replication_slot_advance('outbox', pg_current_wal_lsn())")
    try:
        return 'postgres_replication_slot_copied{database="order"} 1.0' in http.get(url).text
    except httpx.TransportError:
        return False


def test_slot_survives_two_switchovers(pair: tuple[PostgresServer, PostgresServer]) -> None:
    """After a switchover the watcher drops the former primary's slot, and the copy survives a switchover back."""
    one, two = pair
    with watcher(one, two) as url:
        wait_until(lambda: is_copied(url, one), 90)
    one.stop("fast")
    two.promote()
    execute(two, f"SELECT pg_create_physical_replication_slot('{PHYSICAL}', true)")
    one.follow(two)
    one.start()
    left = "SELECT slot_name FROM pg_replication_slots WHERE slot_name = 'outbox' AND NOT synced"
    assert execute(one, left)
    with watcher(two, one) as url:
        wait_until(lambda: is_copied(url, two), 90)
    assert not execute(one, left)
    two.stop("fast")
    one.promote()
    assert execute(one, "SELECT failover FROM pg_replication_slots WHERE slot_name = 'outbox'") == [(True,)]
