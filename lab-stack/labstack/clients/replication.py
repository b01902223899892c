"""What Debezium needs in a database: query the publication and the relay's slot, and restore them for `lab reset`.

Lessons change them: they alter or drop the publication, leave unused slots behind, and limit how much log PostgreSQL
retains. Only `labstack.clients.relay.Relay.renew` replaces the relay's own slot: a new slot starts at the end of the
log, so events can be lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from labstack.clients.course_start import shape
from labstack.clients.databases import connect
from labstack.errors import LabError

IS_UNCHANGED = """
    SELECT (SELECT array_agg(pubname::text) FROM pg_publication) = ARRAY['outbox']
       AND (SELECT pubinsert AND NOT (pubupdate OR pubdelete OR pubtruncate OR puballtables) FROM pg_publication)
       AND (SELECT array_agg(prrelid) FROM pg_publication_rel WHERE prqual IS NULL AND prattrs IS NULL)
           = ARRAY['public.outbox'::regclass::oid]
"""
# CloudNativePG manages a slot for each standby, and its name starts with _cnpg_.
DROP_UNUSED_SLOTS = """
    SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
    WHERE slot_name <> 'outbox' AND NOT starts_with(slot_name, '_cnpg_') AND NOT active
      AND coalesce(database, current_database()) = current_database()
"""


def restore_publication(database_url: str) -> None:
    """Restore a database's publication and settings, and drop its inactive slots except the relay's.

    Raises
    ------
    LabError
        PostgreSQL rejects a statement, or does not answer.
    """
    try:
        with connect(database_url, autocommit=True, timeout=5) as connection:
            # The only setting that the operator's role can change.
            connection.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute(DROP_UNUSED_SLOTS)
            if connection.execute(IS_UNCHANGED).fetchone() != (True,):
                with connection.transaction():
                    _create_publication(connection)
    except psycopg.Error as error:
        raise LabError(
            f"The publication and settings that Debezium needs in a database can't be restored: {error}",
            next_step="look at `lab status`, then run `lab reset` again",
        ) from error


def _create_publication(connection: psycopg.Connection) -> None:
    """Recreate the publication as in labservices/storage/schema.py, with the shape of the tables as its comment."""
    shape_comment = shape(connection)
    for (name,) in connection.execute("SELECT pubname FROM pg_publication").fetchall():
        connection.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(name)))
    connection.execute("CREATE PUBLICATION outbox FOR TABLE public.outbox WITH (publish = 'insert')")
    connection.execute(sql.SQL("COMMENT ON PUBLICATION outbox IS {}").format(sql.Literal(shape_comment)))


def database_is_prepared(database_url: str) -> bool:
    """Return whether the service has created its schema, which includes the publication for Debezium."""
    return _query_value(database_url, "SELECT count(*) FROM pg_publication WHERE pubname = 'outbox'") == 1


@dataclass(frozen=True)
class SlotState:
    """Whether Debezium reads a slot, and the bytes of write-ahead log that PostgreSQL retains for it."""

    is_read: bool = False
    retained_bytes: int = 0


def read_slot(database_url: str) -> SlotState:
    """Return the state of the relay's slot: unread and without retained log if the slot or the database is missing."""
    retained: LiteralString = "pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint"
    row = _query_row(database_url, f"SELECT active, {retained} FROM pg_replication_slots WHERE slot_name = 'outbox'")
    return SlotState(row[0], row[1] or 0) if row else SlotState()


def slot_is_read(database_url: str) -> bool:
    """Return whether Debezium reads a service's replication slot now; the task state RUNNING does not prove it."""
    return read_slot(database_url).is_read


def slot_status(database_url: str) -> str | None:
    """Return PostgreSQL's ``wal_status`` of the slot; None if there is no slot, or the database does not answer."""
    status = _query_slot(database_url, "wal_status")
    return status if isinstance(status, str) else None


def slot_is_usable(database_url: str) -> bool:
    """Return whether the slot exists and PostgreSQL still has the log from the slot's position on."""
    return slot_status(database_url) not in (None, "lost")


def retained_bytes(database_url: str) -> int:
    """Return the number of bytes of write-ahead log that PostgreSQL retains for Debezium.

    The upper bound is ``max_slot_wal_keep_size`` in ``postgresql.conf``. Return 0 if there is no slot, or if the
    database does not answer.
    """
    return read_slot(database_url).retained_bytes


def confirmed_position(database_url: str) -> int | None:
    """Return the position in the log that Debezium has confirmed; None if there is no slot, or no answer."""
    found = _query_slot(database_url, "pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::bigint")
    return found if isinstance(found, int) else None


def end_of_log(database_url: str) -> int | None:
    """Return the position of the end of the log; None if the database does not answer."""
    found = _query_value(database_url, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
    return found if isinstance(found, int) else None


def _query_slot(database_url: str, expression: LiteralString) -> object:
    """Return the value of an expression about the relay's slot."""
    query: LiteralString = "SELECT " + expression + " FROM pg_replication_slots WHERE slot_name = 'outbox'"
    return _query_value(database_url, query)


def _query_value(database_url: str, query: LiteralString) -> object:
    row = _query_row(database_url, query)
    return row[0] if row else None


def _query_row(database_url: str, query: LiteralString) -> tuple[Any, ...] | None:
    try:
        with connect(database_url, timeout=2) as connection:
            return connection.execute(query).fetchone()
    except psycopg.Error:
        return None
