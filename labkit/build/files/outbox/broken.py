"""Returns, a first draft: store the return, then publish its event."""

import json
import os
import uuid
from typing import Any

from confluent_kafka import Producer
from sqlalchemy import create_engine, text

engine = create_engine(os.environ["DATABASE_URL"])
producer = Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"]})


def create_tables() -> None:
    """Create the table."""
    with engine.begin() as db:
        db.execute(text("CREATE TABLE returns (return_id uuid, order_id uuid, amount_cents int)"))


def request_return(order_id: str, customer_id: str, lines: list[dict[str, Any]], traceparent: str) -> str:
    """Store a return, then publish its event, and return the return's id."""
    event = {
        "return_id": str(uuid.uuid4()),
        "order_id": order_id,
        "amount_cents": sum(line["quantity"] * line["unit_price_cents"] for line in lines),
    }
    with engine.begin() as db:
        db.execute(text("INSERT INTO returns VALUES (:return_id, :order_id, :amount_cents)"), event)
    producer.produce(os.environ["RETURNS_TOPIC"], key=order_id, value=json.dumps(event))
    producer.flush()
    return event["return_id"]
