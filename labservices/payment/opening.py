"""The opening data of a new payment database: the customers' accounts."""

from pathlib import Path

from sqlalchemy import Connection

from labservices.datasets import load_customers
from labservices.ids import uuid7
from labservices.payment.tables import accounts, ledger_entries


def load_opening_data(connection: Connection, datasets: Path) -> None:
    """Open an account for each customer of the dataset."""
    opening = load_customers(datasets)
    connection.execute(
        accounts.insert(),
        [
            {
                "customer_id": one.customer_id,
                "name": one.name,
                "balance_cents": one.balance_cents,
                "currency": one.currency,
            }
            for one in opening
        ],
    )
    connection.execute(
        ledger_entries.insert(),
        [
            {
                "entry_id": uuid7(),
                "effect": "opening",
                "customer_id": one.customer_id,
                "amount_cents": one.balance_cents,
            }
            for one in opening
        ],
    )
