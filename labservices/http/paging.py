"""Pagination. A cursor identifies the last row of a page, so new rows do not shift the next page."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel
from sqlalchemy import Column, Row, Select

from labservices.http.problems import HttpProblem, invalid
from labservices.storage.database import Transaction

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=200, description="maximum number of items")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the previous page")]


class Page(BaseModel, Generic[T]):
    """One page of a collection; ``next_cursor`` is null on the last page."""

    items: list[T]
    next_cursor: str | None


def read_page(
    tx: Transaction, query: Select[Any], by: Column[Any], limit: int, cursor: str | None, *, newest_first: bool = False
) -> tuple[Sequence[Row[Any]], str | None]:
    """Read one page of a query.

    Parameters
    ----------
    tx
        The transaction to read in.
    query
        The query, without ``ORDER BY``.
    by
        The unique column that the collection is ordered by: a UUID (version 7, so by time), a text or a number.
    limit, cursor
        The values of the request's parameters.
    newest_first
        Whether the order is descending.

    Returns
    -------
    tuple
        The rows, and the cursor of the next page, or None on the last page.
    """
    query = query.order_by(by.desc() if newest_first else by).limit(limit + 1)
    if cursor is not None:
        last = _decode(cursor, by.type.python_type)
        query = query.where(by < last if newest_first else by > last)
    rows = tx.execute(query).all()
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], _encode(rows[limit - 1]._mapping[by])


def _encode(value: object) -> str:
    return base64.urlsafe_b64encode(str(value).encode()).decode().rstrip("=")


def _decode(cursor: str, kind: type) -> object:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        value = kind(text)
    except ValueError:
        raise _bad_cursor() from None
    if (isinstance(value, str) and not value.isprintable()) or (isinstance(value, int) and not 0 <= value < 2**31):
        raise _bad_cursor()
    return value


def _bad_cursor() -> HttpProblem:
    return invalid("cursor", "the cursor is not valid for this collection")
