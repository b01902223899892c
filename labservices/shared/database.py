"""The service's own database: transactions, and what it looks like when it is away."""

import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, CursorResult, Engine, Executable, Row, Table, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from labservices.shared import metrics, steps
from labservices.shared.events import Event
from labservices.shared.outbox import Outbox


class DatabaseAway(Exception):
    """The database can't be reached, or can't work now. Nothing was changed; trying again later helps."""


class Transaction:
    """A database transaction that can also publish.

    What it publishes becomes known if, and only if, its changes are committed.
    """

    def __init__(self, connection: Connection, outbox: Outbox, cause: UUID | None) -> None:
        self.connection = connection
        self.cause = cause
        self.said: list[Event] = []
        self._outbox = outbox

    def execute(self, statement: Executable, values: Any = None) -> CursorResult[Any]:
        """Execute one SQL statement."""
        return self.connection.execute(statement, values)

    def insert_or_lock(self, table: Table, values: dict[str, Any]) -> Row[Any]:
        """Make the order's row, or lock the one that is there (see ``steps.py``)."""
        return steps.insert_or_lock(self.connection, table, values)

    def move(self, table: Table, order_id: UUID, expected: str, **new: Any) -> None:
        """Change the order's row, provided that its status is the expected one (see ``steps.py``).

        Raises
        ------
        GuardFailed
            When it is not.
        """
        steps.move(self.connection, table, order_id, expected, new)

    def publish(self, said: Event, because_of: UUID | None = None) -> UUID:
        """Write an event into the outbox, and answer its id.

        ``because_of`` is the id of the event that led to it, where that is not the one that is being handled.
        """
        event_id = self._outbox.add(self.connection, said, because_of or self.cause)
        self.said.append(said)
        return event_id


class Database:
    """Gives out transactions.

    Parameters
    ----------
    url
        ``postgresql://user:password@host:port/name``
    outbox
        Where the transactions publish to.
    transaction
        What it gives out.
    """

    def __init__(self, url: str, outbox: Outbox, transaction: type[Transaction] = Transaction) -> None:
        self._make_transaction = transaction
        self.engine = make_engine(url)
        self.schema_made = threading.Event()
        self._outbox = outbox

    @contextmanager
    def transaction(self, cause: UUID | None = None) -> Iterator[Transaction]:
        """Run a block in one transaction: committed at its end, rolled back if it raises.

        Parameters
        ----------
        cause
            The id of the event upon which this is done; it becomes the ``causation_id`` of what is published.

        Raises
        ------
        DatabaseAway
            When the database is not there, goes away, or has no time.
        """
        with self._away_told(), self.engine.begin() as connection:
            tx = self._make_transaction(connection, self._outbox, cause)
            yield tx
        for said in tx.said:
            metrics.count_published(said)

    @contextmanager
    def statements(self) -> Iterator[Connection]:
        """Run a block of statements that only read, each a transaction by itself, at a third of the round trips.

        Raises
        ------
        DatabaseAway
            When the database is not there, goes away, or has no time.
        """
        with self._away_told(), self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def _away_told(self) -> Iterator[None]:
        """Tell whatever shows that the database is away as that."""
        if not self.schema_made.is_set():
            raise DatabaseAway("the tables have not been made yet")
        try:
            yield
        except (DBAPIError, PoolTimeout) as error:
            # PostgreSQL tells the end of a transaction that stood still in an error of another class.
            is_away = isinstance(error, OperationalError | InterfaceError | PoolTimeout) or error.connection_invalidated
            if not is_away:
                raise
            raise DatabaseAway(str(error).split("\n")[0]) from error

    def ping(self) -> None:
        """Ask the database for an answer.

        Raises
        ------
        DatabaseAway
            When it gives none.
        """
        with self.transaction() as tx:
            tx.execute(text("SELECT 1"))


def make_engine(url: str) -> Engine:
    """Make the pool of connections to a database."""
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1),
        # none above the pool's size: such a connection is closed at its return, and made anew for the next request
        pool_size=10,
        max_overflow=0,
        pool_timeout=3,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={
            "connect_timeout": 2,
            # a process that is stopped in the middle of a transaction shall not hold its locks for ever
            "options": "-c timezone=UTC -c idle_in_transaction_session_timeout=10s",
        },
    )
    event.listen(engine, "checkout", _refuse_broken_connection)
    return engine


def _refuse_broken_connection(connection: Any, *_: object) -> None:
    """Have the pool make new connections if the server has closed the old ones, as it does when it is restarted.

    Nothing was asked on this connection, so there is nothing to read, unless it is the server's farewell. Looking costs
    no round trip, as trying the connection with a statement would.
    """
    if connection.closed or select.select([connection.fileno()], [], [], 0)[0]:
        raise InvalidatePoolError
