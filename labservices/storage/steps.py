"""One row per order: the state that a participant of the saga keeps about an order.

Events from different topics arrive in any order and, with several consumers, at the same time. So each service has one
row per order. The first event of the order, whatever its type, inserts the row, and each handler locks it. The lock
serializes all handling of this order in this service. A handler changes the status only from the value that it has
read; if the row has another status, the change fails.
"""

from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Connection, Row, Table, TextualSelect, Update, bindparam, func, text


class GuardFailed(Exception):
    """A row does not have the status that the change expects."""


class ContradictingEvent(Exception):
    """An event contradicts what this service did for the order."""


def insert_or_lock(connection: Connection, table: Table, values: dict[str, Any]) -> Row[Any]:
    """Insert the order's row, or lock the existing one, and return the locked row.

    On a conflict, an update that changes nothing acquires the lock and makes PostgreSQL return the row.
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
    """Update the order's row if it has the expected status.

    Raises
    ------
    GuardFailed
        If the row has another status.
    """
    if connection.execute(_move(table), {"moved": order_id, "expected": expected, **new}).rowcount != 1:
        raise GuardFailed(f"order {order_id} in {table.name} is not {expected}, so it can't become {new['status']}")


@cache
def _move(table: Table) -> Update:
    this_order = table.c.order_id == bindparam("moved")
    has_expected_status = table.c.status == bindparam("expected")
    return table.update().where(this_order, has_expected_status).values(updated_at=func.now())


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """Return a CHECK constraint that allows only these values in a column."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(value.value) for value in values)})")
