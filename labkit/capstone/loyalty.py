"""The loyalty service as notebook 13 builds it: its tables, its connector, and the draft to work on."""

from __future__ import annotations

import httpx

from labkit.capstone.extension import ExtensionService, create_extension
from labkit.inspect.look import Look
from labkit.waiting import wait_until
from labstack import Lab
from labstack.clients import http

NAME = "loyalty"

TABLES = """
CREATE TABLE points (
    booking_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id uuid NOT NULL,
    customer_id text NOT NULL,
    points int NOT NULL,    -- taken back: a row with a minus, since rows are only added
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE outbox (
    id uuid PRIMARY KEY,
    aggregatetype text NOT NULL CHECK (aggregatetype = 'loyalty'),
    aggregateid uuid NOT NULL,
    type text NOT NULL,
    payload jsonb NOT NULL,
    traceparent text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE PUBLICATION outbox FOR TABLE outbox WITH (publish = 'insert');
"""

SLOT = "SELECT pg_create_logical_replication_slot('loyalty_outbox', 'pgoutput')"

ROUTER = {
    "transforms": "outbox",
    "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
    "transforms.outbox.route.by.field": "aggregatetype",
    "transforms.outbox.route.topic.replacement": "${routedByValue}.events",
    "transforms.outbox.table.field.event.key": "aggregateid",
    "transforms.outbox.table.fields.additional.placement": "id:header:ce_id,type:header:ce_type,"
    "created_at:header:ce_time,traceparent:header:traceparent",
}
CONNECTOR = {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "topic.prefix": "loyalty",
    "plugin.name": "pgoutput",
    "slot.name": "loyalty_outbox",
    "publication.name": "outbox",
    "publication.autocreate.mode": "disabled",
    "table.include.list": "public.outbox",
    "snapshot.mode": "no_data",
    "extended.headers.enabled": "false",
    "poll.interval.ms": "20",
    "topic.creation.default.partitions": "4",
    "topic.creation.default.replication.factor": "1",
}

DRAFT = '''
"""Loyalty: a point for each euro that was paid. (A draft; it works.)"""

from uuid import uuid4

from prometheus_client import Gauge
from psycopg.types.json import Jsonb

from labservices.messaging.events import PaymentCompleted

POINTS = Gauge("loyalty_points", "Points that customers hold")


def book(db, event, points):
    db.execute(
        "INSERT INTO points (order_id, customer_id, points) VALUES (%s, %s, %s)",
        [event.order_id, event.customer_id, points],
    )
    POINTS.inc(points)


def say(db, kind, event, points):
    payload = {"order_id": str(event.order_id), "customer_id": event.customer_id, "points": points}
    db.execute(
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) VALUES (%s, 'loyalty', %s, %s, %s)",
        [uuid4(), event.order_id, kind, Jsonb(payload)],
    )


def on_paid(db, event, event_id):
    points = event.amount_cents // 100
    book(db, event, points)
    db.commit()  # so that the customer sees them at once
    say(db, "PointsAwarded", event, points)


HANDLERS = {PaymentCompleted: on_paid}
'''.lstrip()


INBOX = "CREATE TABLE IF NOT EXISTS inbox (event_id uuid PRIMARY KEY)"

SOLUTION = '''
"""Loyalty: a point for each euro that was paid, taken back with the money."""

from uuid import uuid4

from psycopg.types.json import Jsonb

from labservices.messaging.events import PaymentCompleted, PaymentRefunded
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


def say(db, kind, event, points):
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
        say(db, "PointsAwarded", event, points)


def on_refunded(db, event, event_id):
    if is_new(db, event_id):
        points = event.amount_cents // 100
        book(db, event, -points)
        say(db, "PointsTakenBack", event, points)


HANDLERS = {PaymentCompleted: on_paid, PaymentRefunded: on_refunded}
'''.lstrip()


def build(lab: Lab, look: Look) -> ExtensionService:
    """Build loyalty up to the start of the notebook's exercises; keep what exists already."""
    loyalty = create_extension(lab, NAME)
    with look.db.connect(NAME) as db:
        is_empty = db.execute("SELECT to_regclass('outbox') IS NULL").fetchone() == (True,)
        if is_empty:
            db.execute(TABLES.encode())
    with look.db.connect(NAME) as db:
        if not db.execute("SELECT FROM pg_replication_slots WHERE slot_name = 'loyalty_outbox'").fetchall():
            db.execute(SLOT)
    url = f"{lab.endpoints.connect}/connectors/{NAME}-outbox"
    known = http.get(url)
    # After a restart of the lab its databases may have other ports.
    if known.status_code == 404 or not loyalty.connection.items() <= known.json()["config"].items():

        def register() -> bool:
            config = {**CONNECTOR, **ROUTER, **loyalty.connection}
            try:
                return http.request("PUT", f"{url}/config", json=config, timeout=20).status_code < 400
            except httpx.HTTPError:
                return False

        wait_until(register, what="Connect to accept the connector of loyalty", interval=0.3)
    wait_until(lambda: is_read(look), what="Debezium to read loyalty's slot")
    if not loyalty.code:
        loyalty.write(DRAFT)
    return loyalty


def is_read(look: Look) -> bool:
    """Return whether Debezium reads loyalty's slot."""
    found = look.db.rows(NAME, "SELECT active FROM pg_replication_slots WHERE slot_name = 'loyalty_outbox'")
    return bool(found.active.any())
