"""Making a service's schema: its tables, and the two database objects that the relay reads the outbox through."""

from pathlib import Path

from sqlalchemy import Engine, inspect, text

from labservices.shared.service import Service

# Several processes of a service may start at once; one makes the schema, the others wait for it.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('labservices schema'))"

# What the relay may read. Only inserts: an event is a fact, and a fact is never changed or taken back.
_PUBLICATION = "CREATE PUBLICATION outbox FOR TABLE outbox WITH (publish = 'insert')"

# How far the relay has read. PostgreSQL keeps its write-ahead log from there on.
_SLOT = "SELECT pg_create_logical_replication_slot('outbox', 'pgoutput')"


def make_schema(engine: Engine, service: Service, datasets: Path) -> None:
    """Make what is not there yet, in one transaction, and fill the tables if they are new.

    The slot comes last, in a transaction of its own (PostgreSQL wants it so). Nothing is published before it stands:
    the service opens its doors only after this function has returned.
    """
    with engine.begin() as connection:
        connection.execute(text(_LOCK))
        if not inspect(connection).has_table("outbox"):
            service.tables.create_all(connection)
            connection.execute(text(_PUBLICATION))
            service.load_opening_data(connection, datasets)
    with engine.begin() as connection:
        connection.execute(text(_LOCK))
        if not connection.execute(text("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'outbox'")).first():
            connection.execute(text(_SLOT))
