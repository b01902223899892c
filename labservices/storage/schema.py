"""Creation of a service's schema: its tables, and the publication that the relay reads.

The replication slot, which tracks the relay's position, is not part of it. Only a role with the attribute REPLICATION
can create one, and such a role can read every table's changes. The operator creates it with the database, before the
first event.
"""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.schema import CreateTable

if TYPE_CHECKING:
    from labservices.service import Service


# Several processes of a service may start at once; one creates the schema, and the others wait for it.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('labservices schema'))"

# The relay may read only inserts: an event is a fact, and a fact is never changed or deleted.
_PUBLICATION = "CREATE PUBLICATION outbox FOR TABLE outbox WITH (publish = 'insert')"

# A comment on the publication stores the shape of the tables at the time of `CREATE TABLE`.
_STORED_DEFINITION = "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = 'outbox'"


class SchemaMismatch(Exception):
    """The database holds tables that another version of the service created."""


def make_schema(engine: Engine, service: "Service", datasets: Path) -> None:
    """Create the tables and the publication, and load the opening data, if the database has no outbox table.

    All this happens in one transaction. If the database has an outbox table, nothing is changed.

    Raises
    ------
    SchemaMismatch
        If the database has tables of another shape. They are left unchanged.
    """
    with engine.begin() as connection:
        connection.execute(text(_LOCK))
        if not inspect(connection).has_table("outbox"):
            service.tables.create_all(connection)
            connection.execute(text(_PUBLICATION))
            connection.execute(text(f"COMMENT ON PUBLICATION outbox IS '{_definition(connection, service)}'"))
            service.load_opening_data(connection, datasets)
        elif connection.execute(text(_STORED_DEFINITION)).scalar() != _definition(connection, service):
            raise SchemaMismatch(
                f"the database of {service.name} was created by another version of "
                f"labservices/{service.name}/tables.py; run `lab down --purge` and `lab up` to create it again, "
                "without its rows"
            )


def _definition(connection: Connection, service: "Service") -> str:
    """Return a hash of the table definitions, which changes only if the definitions change."""
    # Sorted, since a column's constraints are a set, whose order differs between processes.
    statements = [str(CreateTable(table).compile(connection)) for table in service.tables.sorted_tables]
    tokens = [sorted(re.findall(r"\w+|\S", statement)) for statement in statements]
    return "shape " + hashlib.sha256(repr(tokens).encode()).hexdigest()[:16]
