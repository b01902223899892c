"""A loyalty service that keeps all rules: the solution of the capstone, as text that a learner could have typed."""

from __future__ import annotations

NAME = "loyalty"

DATABASE = '''
import httpx
from labkit import wait_until
from labkit.capstone import create_extension

loyalty = create_extension(lab, "loyalty")
with look.db.connect("loyalty") as db:
    _ = db.execute("""
        CREATE TABLE IF NOT EXISTS inbox (event_id uuid PRIMARY KEY);
        CREATE TABLE IF NOT EXISTS points (
            booking_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            order_id uuid NOT NULL,
            customer_id text NOT NULL,
            points int NOT NULL  -- taken back: a row with a minus, since rows are only added
        );
        CREATE TABLE IF NOT EXISTS outbox (
            id uuid PRIMARY KEY,
            aggregatetype text NOT NULL,
            aggregateid uuid NOT NULL,
            type text NOT NULL,
            payload jsonb NOT NULL,
            traceparent text,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp()
        );
    """)
    if not db.execute("SELECT FROM pg_publication WHERE pubname = 'outbox'").fetchall():
        _ = db.execute("CREATE PUBLICATION outbox FOR TABLE outbox WITH (publish = 'insert')")
with look.db.connect("loyalty") as db:
    if not db.execute("SELECT FROM pg_replication_slots WHERE slot_name = 'loyalty_outbox'").fetchall():
        _ = db.execute("SELECT pg_create_logical_replication_slot('loyalty_outbox', 'pgoutput')")
'''

CONNECTOR = """
router = "transforms.outbox"
config = {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    **loyalty.connection,
    "topic.prefix": "loyalty",
    "plugin.name": "pgoutput",
    "slot.name": "loyalty_outbox",
    "publication.name": "outbox",
    "publication.autocreate.mode": "disabled",
    "table.include.list": "public.outbox",
    "snapshot.mode": "no_data",
    "poll.interval.ms": "20",
    "heartbeat.interval.ms": "5000",
    "heartbeat.action.query": "SELECT pg_logical_emit_message(false, 'heartbeat', '')",
    "message.prefix.exclude.list": ".*",
    "topic.creation.default.partitions": "4",
    "topic.creation.default.replication.factor": "1",
    "transforms": "outbox",
    f"{router}.type": "io.debezium.transforms.outbox.EventRouter",
    f"{router}.route.by.field": "aggregatetype",
    f"{router}.route.topic.replacement": "${routedByValue}.events",
    f"{router}.table.field.event.key": "aggregateid",
    f"{router}.table.fields.additional.placement": "id:header:ce_id,type:header:ce_type,traceparent:header:traceparent",
}
url = f"{lab.endpoints.connect}/connectors/loyalty-outbox/config"
wait_until(lambda: httpx.put(url, json=config, timeout=30).status_code < 400, 30)
slot = "SELECT active FROM pg_replication_slots WHERE slot_name = 'loyalty_outbox'"
wait_until(lambda: look.db.rows("loyalty", slot).active.item(), 30)
"""

SERVICE = '''
"""Loyalty: a point for each euro that was paid, taken back with the money."""

from uuid import uuid4

from psycopg.types.json import Jsonb

from labservices.events import PaymentCompleted, PaymentRefunded
from labservices.telemetry.gauges import Gauge
from labservices.telemetry.tracing import current_traceparent

GAUGES = (Gauge("loyalty_points", "Points that customers hold", (), "SELECT coalesce(sum(points), 0) FROM points"),)


def is_new(db, event_id):
    there = db.execute("INSERT INTO inbox (event_id) VALUES (%s) ON CONFLICT DO NOTHING", [event_id])
    return there.rowcount == 1


def book(db, event, points):
    db.execute(
        "INSERT INTO points (order_id, customer_id, points) VALUES (%s, %s, %s)",
        [event.order_id, event.customer_id, points],
    )


def publish(db, kind, event, points):
    payload = {"order_id": str(event.order_id), "customer_id": event.customer_id, "points": points}
    db.execute(
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, traceparent)"
        " VALUES (%s, 'loyalty', %s, %s, %s, %s)",
        [uuid4(), event.order_id, kind, Jsonb(payload), current_traceparent()],
    )


def on_paid(db, event, event_id):
    if is_new(db, event_id):
        points = event.amount_cents // 100
        book(db, event, points)
        publish(db, "PointsAwarded", event, points)


def on_refunded(db, event, event_id):
    if is_new(db, event_id):
        points = event.amount_cents // 100
        book(db, event, -points)
        publish(db, "PointsTakenBack", event, points)


HANDLERS = {PaymentCompleted: on_paid, PaymentRefunded: on_refunded}
'''

SOLUTION = f"""
{DATABASE.strip()}
{CONNECTOR.strip()}
loyalty.write('''
{SERVICE.strip()}
''')
"""
