"""The saga of a return as choreography: each service reacts to the events of the others."""

import json
import uuid
from typing import Any

from sqlalchemy import Connection, text

REACTIONS = {  # for each service: the event, what it does then, and the events that report success and failure
    "warehouse": {
        "ReturnRequested": ("restock", "GoodsRestocked", "RestockFailed"),
        "RefundFailed": ("undo restock", "RestockReversed", None),
        "CourierFailed": ("undo restock", "RestockReversed", None),
    },
    "payment": {
        "GoodsRestocked": ("refund", "MoneyRefunded", "RefundFailed"),
        "CourierFailed": ("undo refund", "RefundReversed", None),
    },
    "courier": {
        "MoneyRefunded": ("courier", "CourierBooked", "CourierFailed"),
    },
    "returns": {
        "CourierBooked": ("complete", None, None),
        "RestockFailed": ("cancel", None, None),
        "RefundFailed": ("cancel", None, None),
        "CourierFailed": ("cancel", None, None),
    },
}

TABLES = """
    CREATE TABLE inbox (service text, event_id text, PRIMARY KEY (service, event_id));
    CREATE TABLE effects (service text, return_id text, effect text);
    CREATE TABLE outbox (id uuid, aggregatetype text, aggregateid text, type text, payload jsonb);
"""


def create_tables(db: Connection) -> None:
    """Create the tables."""
    db.execute(text(TABLES))


def publish(db: Connection, event_type: str, payload: dict[str, Any]) -> None:
    """Append an event to the outbox."""
    row = {"id": uuid.uuid4(), "key": payload["return_id"], "type": event_type, "payload": json.dumps(payload)}
    db.execute(text("INSERT INTO outbox VALUES (:id, 'events', :key, :type, :payload)"), row)


def handle(db: Connection, service: str, event_id: str, event_type: str, payload: dict[str, Any]) -> None:
    """React to an event in one transaction: inbox, effect and the next event."""
    if event_type not in REACTIONS[service]:
        return
    ids = {"service": service, "event_id": event_id}
    if db.execute(text("INSERT INTO inbox VALUES (:service, :event_id) ON CONFLICT DO NOTHING"), ids).rowcount == 0:
        return
    effect, done, failed = REACTIONS[service][event_type]
    refused = payload["refused"] == effect
    if not refused:
        row = {"service": service, "return_id": payload["return_id"], "effect": effect}
        db.execute(text("INSERT INTO effects VALUES (:service, :return_id, :effect)"), row)
    if answer := failed if refused else done:
        publish(db, answer, payload)
