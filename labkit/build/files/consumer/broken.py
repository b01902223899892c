"""Returns, a first draft: read, pay, commit."""

import json
import os

from confluent_kafka import Consumer
from sqlalchemy import create_engine, text

engine = create_engine(os.environ["DATABASE_URL"])


def create_tables() -> None:
    """Create the table."""
    with engine.begin() as db:
        db.execute(text("CREATE TABLE refunds (return_id uuid, order_id uuid, amount_cents int)"))


def main() -> None:
    """Consume the topic."""
    settings = {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"], "group.id": os.environ["GROUP_ID"]}
    consumer = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    consumer.subscribe([os.environ["PARCELS_TOPIC"]])
    while True:
        message = consumer.poll(1)
        if message is None or message.error():
            continue
        parcel = json.loads(message.value())
        with engine.begin() as db:
            db.execute(text("INSERT INTO refunds VALUES (:return_id, :order_id, :amount_cents)"), parcel)
        consumer.commit(message=message, asynchronous=False)


if __name__ == "__main__":
    main()
