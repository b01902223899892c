"""Resend an order's events, for example after a replication slot was lost.

The inboxes recognize the events that were handled already.
"""

from __future__ import annotations

import uuid

import psycopg

from labstack.backends.base import Endpoints
from labstack.clients.databases import connect
from labstack.errors import LabError, NotRunning


def resend(where: Endpoints, order_id: str) -> dict[str, int]:
    """Delete each outbox row of an order and insert it again with the same id, in one transaction per database.

    Debezium publishes a record for each insert, and none for a delete.

    Parameters
    ----------
    where : Endpoints
        Addresses of the lab.
    order_id : str
        UUID of the order.

    Returns
    -------
    dict
        Number of rows that will be published again, by service.

    Raises
    ------
    LabError
        `order_id` is not a UUID, or no outbox contains the order.
    NotRunning
        A database can't be reached.
    """
    try:
        order = uuid.UUID(order_id)
    except ValueError:
        raise LabError(
            f"{order_id!r} is not an order id.",
            next_step="use its UUID: `order.order_id` in a notebook, or one from GET /orders",
        ) from None
    rows = {}
    for service, url in where.databases.items():
        try:
            with connect(url, timeout=3) as connection:
                connection.execute(
                    "CREATE TEMPORARY TABLE again ON COMMIT DROP AS SELECT * FROM outbox WHERE aggregateid = %s",
                    [order],
                )
                connection.execute("DELETE FROM outbox WHERE id IN (SELECT id FROM again)")
                rows[service] = connection.execute("INSERT INTO outbox SELECT * FROM again ORDER BY id").rowcount
        except psycopg.Error as error:
            raise NotRunning(
                f"The database of {service} can't be reached: {error}",
                next_step=f"run `lab start {service}-db`, then resend again; an event that is sent twice does no harm",
            ) from error
    if not any(rows.values()):
        raise LabError(f"No outbox contains the order {order_id}.", next_step="GET /orders lists the existing orders")
    return rows
