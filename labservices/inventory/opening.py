"""The opening data of a new inventory database: the products and their initial stock."""

from pathlib import Path

from sqlalchemy import Connection

from labservices.datasets import load_products
from labservices.ids import uuid7
from labservices.inventory.tables import products, stock_movements


def load_opening_data(connection: Connection, datasets: Path) -> None:
    """Load the products and their stock from the dataset of products."""
    opening = load_products(datasets)
    connection.execute(
        products.insert(),
        [
            {
                "sku": one.sku,
                "name": one.name,
                "unit_price_cents": one.unit_price_cents,
                "currency": one.currency,
                "on_hand": one.on_hand,
            }
            for one in opening
        ],
    )
    connection.execute(
        stock_movements.insert(),
        [{"movement_id": uuid7(), "effect": "opening", "sku": one.sku, "quantity": one.on_hand} for one in opening],
    )
