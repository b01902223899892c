"""The database servers, for both backends: their roles and passwords, their URLs, and their setup.

Each server has one secret, from which the password of each role is derived. The secret is as old as the server's data:
``lab down --purge`` deletes both.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from labstack.clients.databases import connect
from labstack.config.paths import CONFIG, LabPaths, temporary_path
from labstack.config.templates import fill
from labstack.errors import LabError

ADMINISTRATOR = "postgres"
"""The superuser: sets up a server, and creates and drops the databases of extension services."""
OPERATOR = "operator"
"""The role of `lab` and of the lessons.

It has the service's rights, and may manage slots, end sessions, make checkpoints and limit the retained log.
"""
RELAY = "relay"
"""Debezium's role: it reads publications through replication slots."""
READER = "reader"
"""The role of everything that only reads."""
ROLES = (ADMINISTRATOR, OPERATOR, RELAY, READER)

ROLES_SCRIPT = CONFIG / "postgres" / "roles.sql"
SLOT_SCRIPT = CONFIG / "postgres" / "slot.sql"


EXTENSION_GRANTS = """
    REVOKE ALL ON DATABASE {name} FROM PUBLIC;
    GRANT CONNECT ON DATABASE {name} TO relay, reader;
    ALTER DEFAULT PRIVILEGES FOR ROLE {name} GRANT SELECT ON TABLES TO reader;
    ALTER DEFAULT PRIVILEGES FOR ROLE {name} GRANT SELECT ON SEQUENCES TO reader;
    ALTER DEFAULT PRIVILEGES FOR ROLE {name} GRANT USAGE ON SCHEMAS TO reader;
"""


@dataclass(frozen=True)
class DatabaseServer:
    """The address of one service's database server, and how its roles log in.

    Parameters
    ----------
    host, port
        Address of the server.
    service : str
        Name of the service, of its database, and of the role that owns the database.
    secret : str
        The server's secret.
    """

    host: str
    port: int
    service: str
    secret: str = field(repr=False)

    def password(self, role: str) -> str:
        """Return the password of a role."""
        digest = hmac.digest(self.secret.encode(), role.encode(), "sha256")
        return base64.urlsafe_b64encode(digest[:15]).decode()

    def url(self, role: str = OPERATOR, database: str = "") -> str:
        """Return the libpq URL with which a role opens a database; default: the service's."""
        return f"postgresql://{role}:{self.password(role)}@{self.host}:{self.port}/{database or self.service}"

    @property
    def relay_login(self) -> str:
        """The relay's line in a password file (PostgreSQL's documentation, "The Password File"), for all databases."""
        return f"{self.host}:{self.port}:*:{RELAY}:{self.password(RELAY)}\n"

    @property
    def setup_scripts(self) -> tuple[str, str]:
        """SQL that creates the relay's slot and the roles. The slot's creation needs a separate transaction."""
        roles = {"SERVICE": self.service, **{role: role for role in ROLES}}
        values: dict[str, object] = {f"{name.upper()}_PASSWORD": self.password(role) for name, role in roles.items()}
        values["SERVICE"] = self.service
        return fill(SLOT_SCRIPT, {}), fill(ROLES_SCRIPT, values)


def secret(file: Path) -> str:
    """Return the secret in a file, created on first use and readable by the user only."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        new = temporary_path(file)
        write_private(new, secrets.token_urlsafe(24))
        try:
            os.link(new, file)  # unlike a rename, it keeps the secret that another thread has just written
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return file.read_text(encoding="utf-8")


def write_private(file: Path, text: str) -> None:
    """Write a file that only the user can read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as private:
        private.write(text)


def initial_password(paths: LabPaths) -> str:
    """Return the superuser's password in a new cluster, until `set_up` replaces it."""
    return secret(paths.cache / "postgres" / "password")


def set_up(server: DatabaseServer, initial: str) -> None:
    """Create the service's database, the relay's slot and the roles, unless they exist.

    Parameters
    ----------
    server : DatabaseServer
        The server.
    initial : str
        The superuser's password in a new cluster.

    Raises
    ------
    psycopg.Error
        The server does not answer, or rejects a statement.
    LabError
        The database has tables, but no roles: an earlier version of the lab created it.
    """
    try:
        administrator = server.url(ADMINISTRATOR, "postgres")
        connect(administrator, timeout=1).close()
    except psycopg.OperationalError:
        administrator = administrator.replace(server.password(ADMINISTRATOR), initial)
    with connect(administrator, autocommit=True, timeout=1) as connection:
        exists = connection.execute("SELECT FROM pg_database WHERE datname = %s", [server.service]).fetchall()
        if not exists:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(server.service)))
    in_service = f"{administrator.rpartition('/')[0]}/{server.service}"
    with connect(in_service, autocommit=True, timeout=1) as connection:
        slot, roles = server.setup_scripts
        if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [OPERATOR]).fetchall():
            if connection.execute("SELECT FROM pg_tables WHERE schemaname = 'public'").fetchall():
                raise LabError(
                    f"The database of {server.service} was created by an earlier version of the lab.",
                    next_step="run `lab down --purge` and `lab up` to create it again, without its rows",
                )
            connection.execute(slot.encode())
            connection.execute(roles.encode())  # one transaction, since it is one call


def create_database(server: DatabaseServer, name: str) -> None:
    """Create a database of an extension service, and the role of the same name that owns it, unless they exist.

    The role may create replication slots, as the last notebook does; it can only connect to its own database.
    """
    names = {"name": sql.Identifier(name), "password": sql.Literal(server.password(name))}
    with connect(server.url(ADMINISTRATOR), autocommit=True, timeout=5) as connection:
        if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchall():
            connection.execute(sql.SQL("CREATE ROLE {name} LOGIN REPLICATION PASSWORD {password}").format(**names))
        if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchall():
            connection.execute(sql.SQL("CREATE DATABASE {name} OWNER {name}").format(**names))
    with connect(server.url(ADMINISTRATOR, name), autocommit=True, timeout=5) as connection:
        connection.execute(sql.SQL(EXTENSION_GRANTS).format(**names))
