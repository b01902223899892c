"""Send an order's events once more: what a lost replication slot took with it comes back, and the inboxes still know
what they have handled.
"""

from __future__ import annotations

import uuid

import psycopg

from labstack.backend import Endpoints
from labstack.errors import LabError, NotRunning


def resend(where: Endpoints, order_id: str) -> dict[str, int]:
    """Delete and insert each outbox row of an order, with its own id, in one transaction for each database.

    Debezium makes a record of every insert; the delete says nothing.

    Parameters
    ----------
    where : Endpoints
        Of the lab.
    order_id : str
        The order.

    Returns
    -------
    dict
        How many rows of each service's outbox will come again.

    Raises
    ------
    LabError
        This is no order's id, or no outbox knows it.
    NotRunning
        A database can't be reached.
    """
    try:
        order = uuid.UUID(order_id)
    except ValueError:
        raise LabError(f"{order_id!r} is no order's id.", next_step="ids are UUIDs; GET /orders lists them") from None
    rows = {}
    for service, url in where.databases.items():
        try:
            with psycopg.connect(url, connect_timeout=3) as connection:
                connection.execute(
                    "CREATE TEMPORARY TABLE again ON COMMIT DROP AS SELECT * FROM outbox WHERE aggregateid = %s",
                    [order],
                )
                connection.execute("DELETE FROM outbox WHERE id IN (SELECT id FROM again)")
                rows[service] = connection.execute("INSERT INTO outbox SELECT * FROM again ORDER BY id").rowcount
        except psycopg.Error as error:
            raise NotRunning(
                f"The database of {service} can't be reached: {error}",
                next_step=f"`lab start {service}-db` starts it; then ask again, what was sent twice does no harm",
            ) from error
    if not any(rows.values()):
        raise LabError(
            f"No outbox knows the order {order_id}.", next_step="GET /orders lists the orders that there are"
        )
    return rows
