"""The rows of the services' databases."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import psycopg
from psycopg.rows import tuple_row

from labkit.errors import KitError, QueryFailed, database_errors
from labkit.inspect.scope import Scope
from labkit.sources import pgoutput
from labkit.waiting import wait_until
from labstack.arguments import Seconds, checked_class
from labstack.clients.databases import connect
from labstack.errors import one_of

QUERY_SECONDS = 15
"""The timeout of a query, in seconds."""


@checked_class
class Databases:
    """Queries the services' databases.

    Parameters
    ----------
    scope : Scope
        The lab.

    Examples
    --------
    >>> look.db.rows("order", "SELECT status FROM orders WHERE order_id = %(order)s", order=order)
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def connect(self, service: str) -> psycopg.Connection[Any]:
        """Open a connection that can write to a service's database, as the lessons do.

        As a context manager the connection is one transaction: it commits at the end of the block, rolls back when the
        block raises, and closes.

        Examples
        --------
        >>> with look.db.connect("order") as db:
        ...     db.execute("INSERT INTO ...")
        """
        return self._open(service, {**self._scope.endpoints.databases, **self._scope.lab.extensions.databases})

    def _open(self, service: str, databases: dict[str, str]) -> psycopg.Connection[Any]:
        if service not in databases:
            raise KitError(f"Unknown service {service!r}: it has no database.", next_step=one_of(service, databases))
        with database_errors(service):
            return connect(databases[service])

    def rows(self, service: str, query: str, *, show: bool = False, **parameters: Any) -> pd.DataFrame:
        """Run one query in a service's database, and return the rows as a table.

        The query runs in a read-only transaction of a role that has no right to change anything.

        Parameters
        ----------
        service : str
            The owner of the database: order, inventory, payment or shipping.
        query : str
            SQL; ``%(name)s`` stands for a parameter. If you pass parameters, write a literal ``%`` as ``%%``.
        show : bool
            Whether to print the SQL with its parameters, as it could be given to ``psql``.
        **parameters : object
            Orders and short names are replaced by their ids.

        Raises
        ------
        QueryFailed
            PostgreSQL rejects the query; the message contains its error.
        """
        values = {name: self._scope.parameter(value) for name, value in parameters.items()}
        readable = {**self._scope.endpoints.readable, **self._scope.lab.extensions.readable}
        with self._open(service, readable) as db:
            db.read_only = True
            with database_errors(service), db.cursor(row_factory=tuple_row) as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{QUERY_SECONDS}s"])
                try:
                    if show:
                        print(psycopg.ClientCursor(db).mogrify(query.encode(), values or None))
                    # PostgreSQL prepares a single statement, and rejects a text that contains several.
                    cursor.execute(query.encode(), values or None, prepare=True)
                except TypeError as error:  # %s instead of %(name)s
                    raise QueryFailed(f"{service}: {error}.", next_step="write %(name)s, and pass name=value") from None
                if cursor.description is None:
                    raise QueryFailed("The query returns no rows.", next_step="use a SELECT statement")
                columns = [column.name for column in cursor.description]
                found = cursor.fetchall()
        return pd.DataFrame([self._row(columns, row) for row in found], columns=columns)

    def changes(
        self,
        service: str,
        query: str,
        until: Callable[[pd.DataFrame], bool],
        timeout: Seconds = 30,
        **parameters: Any,
    ) -> pd.DataFrame:
        """Run a query in a service's database repeatedly, and return every result that differs from the previous one.

        Parameters
        ----------
        service, query, **parameters
            As for `rows`.
        until : callable
            Called with a result; returns whether to stop waiting.
        timeout : float
            Seconds, at most.

        Returns
        -------
        DataFrame
            The rows of all results, one below the other; `seconds` is the time at which each was first seen.
        """
        start = time.monotonic()
        seen: list[pd.DataFrame] = []

        def is_last() -> bool:
            rows = self.rows(service, query, **parameters)
            if len(rows) and not (seen and rows.equals(seen[-1].drop(columns="seconds"))):
                seen.append(rows.assign(seconds=round(time.monotonic() - start, 1)))
            return until(rows)

        wait_until(is_last, timeout, what=f"the rows of {service} to reach the expected state")
        return pd.concat(seen, ignore_index=True) if seen else self.rows(service, query, **parameters)

    def decode(self, rows: Iterable[tuple[Any, ...]], *columns: str) -> pd.DataFrame:
        """Return the messages of PostgreSQL's output plugin pgoutput as a table.

        Parameters
        ----------
        rows : iterable of tuple
            ``xid`` and ``data``, as ``pg_logical_slot_peek_binary_changes`` returns them.
        *columns : str
            Columns of an inserted row to show.

        Examples
        --------
        >>> look.db.decode(db.execute("SELECT xid, data FROM pg_logical_slot_peek_binary_changes(...)"), "type")
        """
        aliases, shown = self._scope.aliases, []
        try:
            messages = list(pgoutput.read((str(xid), bytes(data)) for xid, data in rows))
        except (ValueError, TypeError, IndexError, struct.error) as error:
            raise KitError(
                f"These rows are not messages of pgoutput: {error}.",
                next_step="pass rows of `SELECT xid, data FROM pg_logical_slot_peek_binary_changes(...)`",
            ) from None
        for message in messages:
            values = {c: aliases.tidy(message.row.get(c) or "", c) for c in columns}
            transaction = aliases.name(f"transaction {message.transaction}", "tx")
            shown.append({"transaction": transaction, "message": message.name, "table": message.table, **values})
        return pd.DataFrame(shown, columns=["transaction", "message", "table", *columns])

    def _row(self, columns: list[str], row: Iterable[Any]) -> list[Any]:
        tidied = [self._scope.aliases.tidy(value, column) for column, value in zip(columns, row, strict=True)]
        return [json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value for value in tidied]
