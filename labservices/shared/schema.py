"""Making a service's schema: its tables, and the two database objects that the relay reads the outbox through."""

import hashlib
import re
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.schema import CreateTable

from labservices.shared.service import Service

# Several processes of a service may start at once; one makes the schema, the others wait for it.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('labservices schema'))"

# What the relay may read. Only inserts: an event is a fact, and a fact is never changed or taken back.
_PUBLICATION = "CREATE PUBLICATION outbox FOR TABLE outbox WITH (publish = 'insert')"

# A comment on the publication tells which shape the tables have, since `CREATE TABLE` was long ago.
_SHAPE = "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = 'outbox'"

# How far the relay has read. PostgreSQL keeps its write-ahead log from there on.
_SLOT = "SELECT pg_create_logical_replication_slot('outbox', 'pgoutput')"


class OtherSchema(Exception):
    """The database holds tables that another version of the service has made."""


def make_schema(engine: Engine, service: Service, datasets: Path) -> None:
    """Make what is not there yet, in one transaction, and fill the tables if they are new.

    The slot comes last, in a transaction of its own (PostgreSQL wants it so). Nothing is published before it stands:
    the service opens its doors only after this function has returned.

    Raises
    ------
    OtherSchema
        When tables of another shape are there. They and their rows are left as they are.
    """
    with engine.begin() as connection:
        connection.execute(text(_LOCK))
        if not inspect(connection).has_table("outbox"):
            service.tables.create_all(connection)
            connection.execute(text(_PUBLICATION))
            connection.execute(text(f"COMMENT ON PUBLICATION outbox IS '{_shape(connection, service)}'"))
            service.load_opening_data(connection, datasets)
        elif connection.execute(text(_SHAPE)).scalar() != _shape(connection, service):
            raise OtherSchema(
                f"the database of {service.name} was made by another version of labservices/{service.name}/tables.py; "
                "`lab down --purge` and `lab up` make it anew, without its rows"
            )
    with engine.begin() as connection:
        connection.execute(text(_LOCK))
        if not connection.execute(text("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'outbox'")).first():
            connection.execute(text(_SLOT))


def _shape(connection: Connection, service: Service) -> str:
    """Give the tables' shape a short name: the same as long as they would be made in the same way."""
    # Sorted, since the constraints of one column are a set, which comes in another order in each process.
    made_by = [str(CreateTable(table).compile(connection)) for table in service.tables.sorted_tables]
    words = [sorted(re.findall(r"\w+|\S", statement)) for statement in made_by]
    return "shape " + hashlib.sha256(repr(words).encode()).hexdigest()[:16]
