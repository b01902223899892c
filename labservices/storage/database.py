"""The service's own database: transactions, and the detection of an unavailable database."""

import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from uuid import UUID

import orjson
from sqlalchemy import Connection, CursorResult, Engine, Executable, Row, Table, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from labservices.contract import CONNECTION
from labservices.events import Event
from labservices.storage import steps
from labservices.storage.unavailable import DatabaseUnavailable, unavailable
from labservices.telemetry import metrics


class EventAppender(Protocol):
    """Appends events to the outbox table (see ``messaging/outbox.py``)."""

    def add(self, connection: Connection, event: Event, cause: UUID | None) -> UUID:
        """Append an event in an open transaction, and return the event's id."""


class Transaction:
    """A database transaction that can also publish events.

    Its events are published if, and only if, its changes are committed.
    """

    def __init__(self, connection: Connection, outbox: EventAppender, cause: UUID | None) -> None:
        self.connection = connection
        self.cause = cause
        self.published: list[Event] = []
        self._outbox = outbox

    def execute(self, statement: Executable, values: Any = None) -> CursorResult[Any]:
        """Execute one SQL statement."""
        return self.connection.execute(statement, values)

    def insert_or_lock(self, table: Table, values: dict[str, Any]) -> Row[Any]:
        """Insert the order's row, or lock the existing one (see ``steps.py``)."""
        return steps.insert_or_lock(self.connection, table, values)

    def move(self, table: Table, order_id: UUID, expected: str, **new: Any) -> None:
        """Update the order's row if it has the expected status (see ``steps.py``).

        Raises
        ------
        GuardFailed
            If the row has another status.
        """
        steps.move(self.connection, table, order_id, expected, new)

    def publish(self, event: Event, cause: UUID | None = None) -> UUID:
        """Append an event to the outbox, and return its id.

        ``cause`` is the id of the causing event. Default: the event that is being handled.
        """
        event_id = self._outbox.add(self.connection, event, cause or self.cause)
        self.published.append(event)
        return event_id


class Database:
    """Opens transactions on a service's database.

    Parameters
    ----------
    url
        ``postgresql://user:password@host:port/name``
    outbox
        The outbox to which the transactions publish.
    transaction
        The class of the transactions.
    """

    def __init__(self, url: str, outbox: EventAppender, transaction: type[Transaction] = Transaction) -> None:
        self._make_transaction = transaction
        self.engine = make_engine(url)
        self.schema_created = threading.Event()
        self._outbox = outbox

    @contextmanager
    def transaction(self, cause: UUID | None = None) -> Iterator[Transaction]:
        """Run a block in one transaction, which is committed at the end, or rolled back if the block raises.

        Parameters
        ----------
        cause
            The id of the event that is handled; it becomes the ``causation_id`` of the published events.

        Raises
        ------
        DatabaseUnavailable
            If the database is unreachable, disconnects, or is too busy.
        """
        is_committing = False
        try:
            with self._translate_errors(), self.engine.begin() as connection:
                tx = self._make_transaction(connection, self._outbox, cause)
                yield tx
                is_committing = True
        except DatabaseUnavailable as error:
            error.may_be_committed = is_committing and error.broke_connection
            raise
        for published in tx.published:
            metrics.count_published(published)

    @contextmanager
    def statements(self) -> Iterator[Connection]:
        """Run a block of read-only statements, each in its own transaction.

        Each statement needs one round trip; `transaction` needs two more per block, to begin and to commit.

        Raises
        ------
        DatabaseUnavailable
            If the database is unreachable, disconnects, or is too busy.
        """
        with self._translate_errors(), self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise `DatabaseUnavailable` for every error that shows that the database is unavailable."""
        if not self.schema_created.is_set():
            raise DatabaseUnavailable("the schema has not been created yet")
        try:
            yield
        except (DBAPIError, PoolTimeout) as error:
            reported = unavailable(error)
            if reported is None:
                raise
            raise reported from error

    def ping(self) -> None:
        """Check that the database responds.

        Raises
        ------
        DatabaseUnavailable
            If it does not.
        """
        with self.transaction() as tx:
            tx.execute(text("SELECT 1"))


def make_engine(url: str) -> Engine:
    """Create an engine with a connection pool for a database."""
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1),
        # no overflow: an overflow connection is closed when it is returned, and the next request opens a new one
        pool_size=10,
        max_overflow=0,
        pool_timeout=3,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={
            **CONNECTION,
            "connect_timeout": 2,
            # a process that is suspended during a transaction must not hold its locks forever
            "options": "-c timezone=UTC -c idle_in_transaction_session_timeout=10s",
        },
    )
    event.listen(engine, "checkout", _refuse_broken_connection)
    return engine


def _refuse_broken_connection(connection: Any, *_: object) -> None:
    """Make the pool open new connections if the server has closed the old ones, for example during a restart.

    No query is pending on this connection, so the only readable data can be the server's closing message. Unlike a test
    query, this check needs no round trip.
    """
    if connection.closed or select.select([connection.fileno()], [], [], 0)[0]:
        raise InvalidatePoolError
