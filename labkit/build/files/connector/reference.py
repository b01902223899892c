"""Returns, step 4: the connector that publishes the outbox."""

import os
import time

import httpx
import psycopg

DATABASE_URL = os.environ["DATABASE_URL"].replace("postgresql+psycopg://", "postgresql://")
CONNECTOR_URL = f"{os.environ['CONNECT_URL']}/connectors/{os.environ['CONNECTOR']}"

PUBLICATION = "CREATE PUBLICATION outbox FOR TABLE outbox WITH (publish = 'insert')"
SLOT = "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')"

PATIENCE = 90
"""Seconds for which a deployment waits for Connect."""
TEMPORARY = (404, 409, 500, 503)
"""Answers of Connect while it starts or rebalances."""


def config(topic: str, headers: dict[str, str]) -> dict[str, str]:
    """Return the connector's configuration."""
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": os.environ["DATABASE_HOST"],
        "database.port": os.environ["DATABASE_PORT"],
        "database.user": os.environ["DATABASE_USER"],
        "database.dbname": os.environ["DATABASE_NAME"],
        "topic.prefix": os.environ["CONNECTOR"],
        "plugin.name": "pgoutput",
        "slot.name": os.environ["SLOT"],
        "publication.name": "outbox",
        "publication.autocreate.mode": "disabled",
        "table.include.list": "public.outbox",
        "snapshot.mode": "no_data",
        # Each heartbeat writes to the log, so that the slot moves on while no event is written.
        "heartbeat.interval.ms": "2000",
        "heartbeat.action.query": "SELECT pg_logical_emit_message(false, 'heartbeat', '')",
        "message.prefix.exclude.list": ".*",
        # An event that can't be sent stops the connector; an outage of the database does not.
        "errors.tolerance": "none",
        "errors.max.retries": "-1",
        "retriable.restart.connector.wait.ms": "1000",
        # The payload is JSON already.
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "header.converter": "org.apache.kafka.connect.storage.StringConverter",
        "topic.creation.default.partitions": "4",
        "topic.creation.default.replication.factor": "1",
        "transforms": "outbox",
        "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
        "transforms.outbox.route.topic.replacement": topic,
        "transforms.outbox.table.field.event.key": "aggregateid",
        "transforms.outbox.table.fields.additional.placement": ",".join(
            f"{column}:header:{header}" for header, column in headers.items()
        ),
    }


def prepare() -> None:
    """Create the publication and the slot."""
    with psycopg.connect(DATABASE_URL, autocommit=True) as database:
        database.execute(PUBLICATION)
        database.execute(SLOT, [os.environ["SLOT"]])


def deploy(topic: str, headers: dict[str, str]) -> None:
    """Register the connector, or change it: the events' topic, and their headers (header: column of the outbox)."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answer = httpx.put(f"{CONNECTOR_URL}/config", json=config(topic, headers), timeout=30)
            if answer.status_code not in TEMPORARY or time.monotonic() > deadline:
                answer.raise_for_status()
                return
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)
