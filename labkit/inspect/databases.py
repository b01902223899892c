"""The rows of the services' databases."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import psycopg
from psycopg.rows import tuple_row

from labkit.errors import KitError, QueryFailed, ShopUnavailable
from labkit.inspect.scope import Scope
from labkit.inspect.sources import pgoutput
from labkit.waiting import wait_until
from labstack.errors import one_of

QUERY_SECONDS = 15
"""The timeout of a query, in seconds."""


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
        """Open a connection to a service's database.

        As a context manager the connection is one transaction: it commits at the end of the block, rolls back when the
        block raises, and closes.

        Examples
        --------
        >>> with look.db.connect("order") as db:
        ...     db.execute("INSERT INTO ...")
        """
        databases = {**self._scope.endpoints.databases, **self._scope.lab.extensions.databases}
        if service not in databases:
            raise KitError(f"There is no database of {service!r}.", next_step=one_of(service, databases))
        try:
            return psycopg.connect(databases[service], connect_timeout=5)
        except psycopg.OperationalError as error:
            raise ShopUnavailable(
                f"The database of {service} doesn't answer: {str(error).splitlines()[-1]}",
                next_step=f"`lab` shows its state, `lab.start('{service}-db')` starts it",
            ) from None

    def rows(self, service: str, query: str, *, show: bool = False, **parameters: Any) -> pd.DataFrame:
        """Run a read-only query in a service's database, and return the rows as a table.

        Parameters
        ----------
        service : str
            The owner of the database: order, inventory, payment or shipping.
        query : str
            SQL; ``%(name)s`` stands for a parameter.
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
        with self.connect(service) as db:
            db.read_only = True
            if show:
                print(psycopg.ClientCursor(db).mogrify(query.encode(), values or None))
            try:
                with db.cursor(row_factory=tuple_row) as cursor:
                    cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{QUERY_SECONDS}s"])
                    cursor.execute(query.encode(), values or None)
                    if cursor.description is None:
                        raise QueryFailed("The query returns no rows.", next_step="use a SELECT statement")
                    columns = [column.name for column in cursor.description]
                    found = cursor.fetchall()
            except psycopg.Error as error:
                raise QueryFailed(f"{service} says: {str(error).strip()}") from None
        return pd.DataFrame([self._row(columns, row) for row in found], columns=columns)

    def changes(
        self,
        service: str,
        query: str,
        until: Callable[[pd.DataFrame], bool],
        timeout: float = 30,
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
        return pd.concat(seen, ignore_index=True)

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
        for message in pgoutput.read((str(xid), bytes(data)) for xid, data in rows):
            values = {c: aliases.tidy(message.row.get(c) or "", c) for c in columns}
            transaction = aliases.name(f"transaction {message.transaction}", "tx")
            shown.append({"transaction": transaction, "message": message.name, "table": message.table, **values})
        return pd.DataFrame(shown, columns=["transaction", "message", "table", *columns])

    def _row(self, columns: list[str], row: Iterable[Any]) -> list[Any]:
        tidied = [self._scope.aliases.tidy(value, column) for column, value in zip(columns, row, strict=True)]
        return [json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value for value in tidied]
