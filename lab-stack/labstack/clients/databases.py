"""Connections to the databases, independent of the environment, and a readiness probe."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

import psycopg

from labservices.contract import CONNECTION

if TYPE_CHECKING:
    from sqlalchemy import Engine


def connect(url: str, *, timeout: int = 5, options: str = "", **keywords: Any) -> psycopg.Connection[Any]:
    """Connect to a database of the lab; see `psycopg.connect` for further keywords and the errors.

    Parameters
    ----------
    url : str
        The libpq URL.
    timeout : int
        Seconds until the attempt fails.
    options : str
        Settings of the session, such as ``-c statement_timeout=5000``.
    """
    ignore_libpq_variables()
    return psycopg.connect(url, connect_timeout=timeout, options=options, **CONNECTION, **keywords)


def engine(url: str) -> Engine:
    """Return an SQLAlchemy engine for a database of the lab.

    Parameters
    ----------
    url : str
        The libpq URL, or SQLAlchemy's URL for psycopg.
    """
    from sqlalchemy import create_engine, make_url  # most commands need no engine, and the import takes a while

    ignore_libpq_variables()
    return create_engine(make_url(url).set(drivername="postgresql+psycopg"))


def ignore_libpq_variables() -> None:
    """Remove libpq's variables from this process's environment.

    A parameter takes precedence over its variable, but if ``PGSERVICE`` is set, even a connection that names every
    parameter fails.
    """
    for name in libpq_variables() & set(os.environ):
        del os.environ[name]


@cache
def libpq_variables() -> frozenset[str]:
    """Return the names of the environment variables that libpq reads.

    Source: https://www.postgresql.org/docs/current/libpq-envars.html
    """
    of_parameters = (option.envvar for option in psycopg.pq.Conninfo.get_defaults())
    others = ("PGSERVICEFILE", "PGSYSCONFDIR", "PGDATESTYLE", "PGTZ", "PGGEQO", "PGLOCALEDIR")
    return frozenset({*(name.decode() for name in of_parameters if name), *others})


def answers(url: str) -> bool:
    """Report whether a database answers a query."""
    try:
        with connect(url, timeout=1) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
