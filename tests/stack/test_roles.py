"""The roles of the databases: each has the rights that its user needs, and no other; their passwords stay private."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator

import psycopg
import pytest

from labstack.clients import broker, http
from labstack.clients.database_server import ADMINISTRATOR, OPERATOR, READER, RELAY, ROLES, DatabaseServer, secret
from labstack.clients.relay import connector_name
from labstack.lab import access_of
from labstack.waiting import wait_until
from tests.stack.labs import LabHarness

SERVICES = ("order", "inventory", "payment", "shipping")


@pytest.fixture
def server(shared: LabHarness) -> DatabaseServer:
    """Return the order service's database server."""
    return access_of(shared.lab).backend().database_server("order")


def test_only_the_administrator_is_a_superuser(server: DatabaseServer) -> None:
    """The service owns its database and reads statistics; only roles that use slots have the attribute REPLICATION."""
    with psycopg.connect(server.url()) as connection:
        roles = connection.execute(
            "SELECT rolname, rolsuper, rolreplication FROM pg_roles WHERE rolcanlogin"
        ).fetchall()
        rights = "rolcreaterole OR rolcreatedb OR rolbypassrls"
        powerful = connection.execute(f"SELECT rolname FROM pg_roles WHERE {rights}").fetchall()
        owned = connection.execute("SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = 'order'").fetchall()
        members = connection.execute(
            "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = 'order'::regrole"
        ).fetchall()
    assert set(roles) == {
        (ADMINISTRATOR, True, True),
        (OPERATOR, False, True),
        (RELAY, False, True),
        (READER, False, False),
        ("order", False, False),
    }
    assert powerful == [(ADMINISTRATOR,)]
    assert owned == [("order",)]
    assert members == [("pg_read_all_stats",)]


@pytest.mark.parametrize("service", SERVICES)
def test_each_program_uses_its_own_role(shared: LabHarness, service: str) -> None:
    """The service and the relay log in with their own roles, and no program logs in as the superuser."""
    query = "SELECT DISTINCT usename FROM pg_stat_activity WHERE usename IS NOT NULL AND pid <> pg_backend_pid()"
    with psycopg.connect(shared.lab.endpoints.databases[service], autocommit=True) as connection:

        def users() -> set[str]:
            return {user for (user,) in connection.execute(query).fetchall()}

        wait_until(lambda: {service, RELAY} <= users(), 10)
        assert users() <= {service, RELAY, READER, OPERATOR}


def tables(server: DatabaseServer) -> Iterator[str]:
    with psycopg.connect(server.url()) as connection:
        yield from (
            name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        )


def test_the_relay_reads_no_table(server: DatabaseServer) -> None:
    """Debezium's role gets the publication's rows from the log, and has no right to any table, file or program."""
    with psycopg.connect(server.url(RELAY), autocommit=True) as connection:
        for table in tables(server):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f'SELECT count(*) FROM "{table}"'.encode())
        for statement in (
            "COPY (SELECT 1) TO PROGRAM 'id'",
            "CREATE TABLE mine (x int)",
            "SELECT pg_read_file('/etc/hostname')",
            "ALTER SYSTEM SET work_mem = '1GB'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    copy_of_everything = server.url(RELAY).rpartition("/")[0] + "/order?replication=true"
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(copy_of_everything)


def test_connect_shows_no_password(shared: LabHarness) -> None:
    """Neither Connect's interface nor its topics contain a password of any database."""
    lab = shared.lab
    name, url = connector_name("order"), lab.endpoints.connect
    config = http.get(f"{url}/connectors/{name}/config").json()
    plugin = f"{url}/connector-plugins/{config['connector.class']}/config/validate"
    shown = [
        http.get(f"{url}/connectors?expand=info&expand=status").text,
        http.get(f"{url}/connectors/{name}/tasks").text,
        http.request("PUT", plugin, json=config, timeout=30).text,
        json.dumps([str(record) for record in broker.read_all(lab.endpoints.kafka, ["connect-configs"])]),
    ]
    passwords = [access_of(lab).backend().database_server(s).password(role) for s in SERVICES for role in (*ROLES, s)]
    assert not [password for password in passwords if any(password in text for text in shown)]
    assert len(set(passwords)) == len(passwords)


def test_a_purge_ends_with_the_secrets(harness: LabHarness) -> None:
    """A database's secret is readable by its owner only, and new data have a new one."""
    files = [harness.paths.config(f"{service}-db") / "secret" for service in SERVICES]
    before = [secret(file) for file in files]
    assert [secret(file) for file in files] == before
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    access_of(harness.lab).backend().purge()
    assert not set(before) & {secret(file) for file in files}
    assert len({secret(file) for file in files}) == len(files)


def test_a_quiet_outbox_retains_no_log_of_other_tables(server: DatabaseServer) -> None:
    """The slot's position follows the log although no event is written, so that PostgreSQL can remove the log."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE noise AS SELECT repeat(md5(n::text), 50) FROM generate_series(1, 5000) AS n")
        connection.execute("DROP TABLE noise")
        (end,) = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone() or ("",)
        confirmed = "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = 'outbox'"
        wait_until(lambda: connection.execute(confirmed, [end]).fetchone() == (True,), 30, interval=0.2)
