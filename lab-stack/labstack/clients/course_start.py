"""Baseline data: the rows of each new database, in a schema beside the tables, from which `reset` restores them."""

from __future__ import annotations

import psycopg
from psycopg import sql

from labstack.clients.databases import connect

SCHEMA = "course_start"

PUBLICATION_SHAPE = "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = 'outbox'"
SAVED_SHAPE = f"SELECT obj_description(to_regnamespace('{SCHEMA}'), 'pg_namespace')"


def tables(connection: psycopg.Connection) -> list[str]:
    """Return the names of the service's tables."""
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
    return [row[0] for row in rows]


def save_baseline_data(database_url: str) -> bool:
    """Copy every table's rows into the schema ``course_start``, unless it exists; return whether it was created."""
    with connect(database_url, timeout=10) as connection:
        exists = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", [SCHEMA]).fetchone()
        if exists == (True,):
            return False
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
        for table in tables(connection):
            name = sql.Identifier(table)
            connection.execute(
                sql.SQL("CREATE TABLE {}.{} AS TABLE public.{}").format(sql.Identifier(SCHEMA), name, name)
            )
        shape_comment = connection.execute(PUBLICATION_SHAPE).fetchone()
        comment = sql.SQL("COMMENT ON SCHEMA {} IS {}")
        connection.execute(
            comment.format(sql.Identifier(SCHEMA), sql.Literal(shape_comment[0] if shape_comment else None))
        )
    return True


def has_events(database_url: str) -> bool:
    """Return whether the service has already written events, so that its rows are not the course's start."""
    with connect(database_url, timeout=10) as connection:
        return connection.execute("SELECT EXISTS (SELECT FROM public.outbox)").fetchone() == (True,)


def shape(connection: psycopg.Connection) -> str | None:
    """Return the shape of the tables, which the service records as a comment on its publication; None if unknown.

    The schema ``course_start`` has a copy of that comment.
    """
    for query in (PUBLICATION_SHAPE, SAVED_SHAPE):
        row = connection.execute(query).fetchone()
        if row and row[0]:
            return str(row[0])
    return None


def restore_tables(connection: psycopg.Connection) -> None:
    """Empty every table and restore the baseline data, in the caller's transaction."""
    names = tables(connection)
    table_list = sql.SQL(", ").join(sql.SQL("public.{}").format(sql.Identifier(n)) for n in names)
    connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(table_list))
    for table in names:
        name = sql.Identifier(table)
        connection.execute(
            sql.SQL("INSERT INTO public.{} SELECT * FROM {}.{}").format(name, sql.Identifier(SCHEMA), name)
        )
