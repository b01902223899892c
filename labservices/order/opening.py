"""The opening data of a new order database: the catalogue."""

from pathlib import Path

from sqlalchemy import Connection

from labservices.datasets import load_products
from labservices.order.tables import catalogue


def load_opening_data(connection: Connection, datasets: Path) -> None:
    """Load the catalogue from the dataset of products."""
    rows = [
        {"sku": one.sku, "name": one.name, "unit_price_cents": one.unit_price_cents, "currency": one.currency}
        for one in load_products(datasets)
    ]
    connection.execute(catalogue.insert(), rows)
