"""A database of the chart is set up by SQL that a real PostgreSQL executes as CloudNativePG would."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import create_engine

from labservices.order import service as order
from labservices.storage.schema import make_schema
from labstack.config.paths import DATASETS
from tests.deploy.rendering import of_kind
from tests.services.postgres import PostgresServer, postgres_server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Run PostgreSQL with the database, owner and setup of `order-db`."""
    setup = of_kind("ConfigMap")["order-db-setup"]["data"]
    with postgres_server() as running:
        with psycopg.connect(running.url("postgres"), autocommit=True) as connection:
            connection.execute('CREATE ROLE "order" LOGIN')
            connection.execute('CREATE DATABASE "order" OWNER "order"')
        with psycopg.connect(running.url("order"), autocommit=True) as connection:
            connection.execute(setup["slot.sql"].encode())
            connection.execute(setup["roles.sql"].encode())
            connection.execute("CREATE ROLE streaming_replica LOGIN REPLICATION")
        yield running


def url(server: PostgresServer, role: str, database: str = "order") -> str:
    return server.url(database).replace("postgres@", f"{role}@")


def test_roles_have_the_attributes_that_the_operator_keeps(server: PostgresServer) -> None:
    """Each role that the setup creates matches the Cluster's managed roles, so the operator changes nothing."""
    query = """
        SELECT rolname, rolcanlogin, rolreplication, array(SELECT pg_get_userbyid(roleid)::text FROM pg_auth_members
            WHERE member = pg_roles.oid ORDER BY 1) FROM pg_roles WHERE rolname = ANY(%s)
    """
    managed = {role["name"]: role for role in of_kind("Cluster")["order-db"]["spec"]["managed"]["roles"]}
    with psycopg.connect(server.url("order")) as connection:
        rows = connection.execute(query, [list(managed)]).fetchall()
    found = {name: (login, replication, groups) for name, login, replication, groups in rows}
    assert found == {
        name: (True, role["replication"], sorted(role.get("inRoles", []))) for name, role in managed.items()
    }


def test_slot_is_synchronized_to_standbys(server: PostgresServer) -> None:
    """The relay's slot is a failover slot, and a standby's own role reaches the database that its worker uses."""
    with psycopg.connect(server.url("order")) as connection:
        row = connection.execute(
            "SELECT plugin, failover FROM pg_replication_slots WHERE slot_name = 'outbox'"
        ).fetchone()
    assert row == ("pgoutput", True)
    psycopg.connect(url(server, "streaming_replica", "postgres")).close()


def test_roles_have_the_rights_that_the_services_and_the_relay_need(server: PostgresServer) -> None:
    """The service makes its tables, the reader reads them, the relay does not, and only the lab's roles connect."""
    engine = create_engine(url(server, "order").replace("postgresql://", "postgresql+psycopg://"))
    make_schema(engine, order, DATASETS)
    engine.dispose()
    with psycopg.connect(url(server, "relay")) as connection:
        connection.execute("SELECT pg_logical_emit_message(false, 'heartbeat', '')")  # as its connector does
    with psycopg.connect(url(server, "reader")) as connection:
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    with (
        psycopg.connect(url(server, "relay")) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT count(*) FROM outbox")
    with psycopg.connect(url(server, "operator"), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'")
        connection.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
    with (
        psycopg.connect(url(server, "reader")) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT pg_logical_emit_message(false, 'heartbeat', '')")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(url(server, "streaming_replica"))


def test_parameters_are_settings_of_postgresql(server: PostgresServer) -> None:
    """PostgreSQL knows each parameter of the Cluster, and accepts its value."""
    parameters = of_kind("Cluster")["order-db"]["spec"]["postgresql"]["parameters"]
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        for name, value in parameters.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        connection.execute("ALTER SYSTEM RESET ALL")
