"""The opening data of a new shipping database: the destinations and their carriers."""

from pathlib import Path

from sqlalchemy import Connection

from labservices.datasets import load_destinations
from labservices.shipping.tables import destinations


def load_opening_data(connection: Connection, datasets: Path) -> None:
    """Load the destinations from their dataset."""
    rows = [
        {"destination": one.destination, "name": one.name, "carrier": one.carrier}
        for one in load_destinations(datasets)
    ]
    connection.execute(destinations.insert(), rows)
