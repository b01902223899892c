"""One row per order: how a service that takes part in the saga keeps to itself what it knows about an order.

Events from different topics come in any order, and with several consumers at the same moment. So each service has one
row per order. The first event of the order makes the row, whichever event that is, and each handler locks it: from
there on all that happens to this order in this service happens one after the other. The row's status moves only from a
value that the handler has seen; if it were another one, nothing would be moved.
"""

from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Connection, Row, Table, TextualSelect, Update, bindparam, func, text


class GuardFailed(Exception):
    """A row did not have the status that it was to be moved from."""


class OutOfStep(Exception):
    """An event came that can't have been written, given what this service did for the order."""


def insert_or_lock(connection: Connection, table: Table, values: dict[str, Any]) -> Row[Any]:
    """Make the order's row, or lock the one that is there; either way, answer it locked.

    The conflict's harmless update is what takes the lock and lets PostgreSQL return the row.
    """
    return connection.execute(_insert_or_lock(table, tuple(values)), values).one()


@cache
def _insert_or_lock(table: Table, columns: tuple[str, ...]) -> TextualSelect:
    statement = f"""
        INSERT INTO {table.name} ({", ".join(columns)}) VALUES (:{", :".join(columns)})
        ON CONFLICT (order_id) DO UPDATE SET order_id = excluded.order_id
        RETURNING {", ".join(table.columns.keys())}
    """
    parameters = [bindparam(name, type_=table.columns[name].type) for name in columns]
    return text(statement).bindparams(*parameters).columns(*table.columns)


def move(connection: Connection, table: Table, order_id: UUID, expected: str, new: dict[str, Any]) -> None:
    """Change the order's row, provided that its status is the expected one.

    Raises
    ------
    GuardFailed
        When it is not.
    """
    if connection.execute(_move(table), {"moved": order_id, "expected": expected, **new}).rowcount != 1:
        raise GuardFailed(f"order {order_id} in {table.name} is not {expected}, so it does not become {new['status']}")


@cache
def _move(table: Table) -> Update:
    this_order = table.c.order_id == bindparam("moved")
    as_expected = table.c.status == bindparam("expected")
    return table.update().where(this_order, as_expected).values(updated_at=func.now())


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """Make the CHECK that lets only these values into a column."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(value.value) for value in values)})")
