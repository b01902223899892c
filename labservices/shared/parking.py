"""Parked records: what happens to a record that can't be handled, and to those behind it.

A record that always fails must neither stop its partition for ever nor be lost. So a failing record leaves the
partition and waits in the service's own database, and the partition flows on. It is tried again a few times, later and
later; then it is given up: a copy with the whole story goes to the dead-letter topic, ``SERVICE.dlq``, and the record
stays here as a *dead letter* until someone sends it back (once its cause is gone) or discards it.

What comes later for the same order must not overtake it. It is parked behind it, in the order of arrival, and follows
as soon as nothing is before it any more. Other orders don't notice.

One rule drives all of this: the first parked record of each order is tried when it is due, unless it is a dead letter.
"""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from labservices.shared.record import InvalidRecord, Record

MAX_ATTEMPTS = 5
"""So often a record is tried before it is given up."""

RETRY_FIRST, RETRY_MOST = 0.2, 5.0
"""Seconds until the next try: about twice as long each time, up to a limit."""


class State(StrEnum):
    """What a parked record waits for."""

    BEHIND = "behind"  # for those before it
    RETRYING = "retrying"  # for its next try
    GIVEN_UP = "given_up"  # for its way into the dead-letter topic
    DEAD = "dead"  # for someone who sends it back


def parked_table(metadata: MetaData) -> Table:
    """Describe where one service parks records."""
    return Table(
        "parked_records",
        metadata,
        Column("parking_id", BigInteger, Identity(), primary_key=True),  # in the order of arrival
        Column("state", Text, CheckConstraint(f"state IN ({', '.join(repr(s.value) for s in State)})"), nullable=False),
        Column("topic", Text, nullable=False),
        Column("partition", Integer, nullable=False),
        Column("offset", BigInteger, nullable=False),
        Column("key", Text),  # the order's id, unless that is what is wrong with the record
        Column("value", LargeBinary),
        Column("headers", JSONB, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("permanent", Boolean, nullable=False),  # whether trying again can't help
        Column("error", Text),
        Column("parked_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
        Column("due_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
        UniqueConstraint("topic", "partition", "offset"),  # a record that is read again is not parked again
        Index("parked_records_by_key", "key", postgresql_using="hash"),  # a key may be too long for the usual one
    )


@dataclass(frozen=True)
class Parked:
    """A parked record."""

    parking_id: int
    state: State
    record: Record
    attempts: int
    permanent: bool
    error: str | None = None


@dataclass(frozen=True)
class Failure:
    """Why a record could not be handled, and how often it was tried."""

    error: str
    attempts: int
    permanent: bool = field(default=False)

    @classmethod
    def of(cls, error: Exception, attempts: int) -> "Failure":
        """Describe an exception. A record that is not what the contract says won't become so by waiting."""
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        return cls(f"{name}: {error}"[:2000], attempts, isinstance(error, InvalidRecord))

    @property
    def state(self) -> State:
        """What becomes of the record."""
        return State.GIVEN_UP if self.permanent or self.attempts >= MAX_ATTEMPTS else State.RETRYING

    @property
    def wait_seconds(self) -> float:
        """How long until the next try: with some chance in it, so that many failing records don't come at once."""
        if self.state is State.GIVEN_UP:
            return 0.0
        return min(RETRY_FIRST * 2.0 ** (self.attempts - 1), RETRY_MOST) * random.uniform(0.5, 1.5)


_PARK = text(
    """
    INSERT INTO parked_records
        (state, topic, partition, "offset", key, value, headers, attempts, permanent, error, due_at)
    VALUES (:state, :topic, :partition, :offset, :key, :value, CAST(:headers AS jsonb), :attempts, :permanent, :error,
        clock_timestamp() + make_interval(secs => :wait))
    ON CONFLICT (topic, partition, "offset") DO NOTHING
    """
)

# The first of each order, unless it is dead. A record without a key belongs to no order, and waits for nobody.
_ITS_TURN = """
    state <> 'dead' AND (key IS NULL OR NOT EXISTS (
        SELECT FROM parked_records AS before WHERE before.key = it.key AND before.parking_id < it.parking_id))
"""

# Two processes of a service may look at the same moment; SKIP LOCKED gives each another record.
_NEXT_DUE = text(
    f"""
    SELECT * FROM parked_records AS it
    WHERE {_ITS_TURN} AND due_at <= clock_timestamp()
    ORDER BY parking_id LIMIT 1
    FOR UPDATE SKIP LOCKED
    """
)

_NEXT_DUE_IN = text(
    f"SELECT extract(epoch FROM min(due_at) - clock_timestamp()) FROM parked_records AS it WHERE {_ITS_TURN}"
)

_TRIED = text(
    """
    UPDATE parked_records
    SET state = :state, attempts = :attempts, permanent = :permanent, error = :error,
        due_at = clock_timestamp() + make_interval(secs => :wait)
    WHERE parking_id = :parking_id AND state <> 'dead'
    """
)

_REPLAY = text(
    """
    UPDATE parked_records SET state = 'retrying', attempts = 0, permanent = false, due_at = clock_timestamp()
    WHERE parking_id = :parking_id AND state = 'dead'
    """
)


def park(connection: Connection, record: Record, state: State, failure: Failure | None = None) -> None:
    """Park a record, unless it is parked already."""
    values = {
        "state": state,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": _storable(record.key),
        "value": record.value,
        "headers": _headers_as_json(record),
        "attempts": failure.attempts if failure else 0,
        "permanent": failure.permanent if failure else False,
        "error": _storable(failure.error) if failure else None,
        "wait": failure.wait_seconds if failure else 0.0,
    }
    connection.execute(_PARK, values)


def next_due(connection: Connection) -> Parked | None:
    """Find a parked record that is due, and lock it until the transaction ends."""
    row = connection.execute(_NEXT_DUE).one_or_none()
    return _parked(row) if row else None


def seconds_until_due(connection: Connection) -> float | None:
    """Tell in how many seconds the next record is due; None where none waits."""
    seconds = connection.execute(_NEXT_DUE_IN).scalar_one()
    return None if seconds is None else max(0.0, float(seconds))


def remove(connection: Connection, parking_id: int) -> None:
    """Forget a record: it was handled."""
    connection.execute(text("DELETE FROM parked_records WHERE parking_id = :id"), {"id": parking_id})


def note_failure(connection: Connection, parking_id: int, failure: Failure) -> None:
    """Note that a parked record has failed once more."""
    values = {
        "parking_id": parking_id,
        "state": failure.state,
        "attempts": failure.attempts,
        "permanent": failure.permanent,
        "error": _storable(failure.error),
        "wait": failure.wait_seconds,
    }
    connection.execute(_TRIED, values)


def put_off(connection: Connection, parking_id: int, seconds: float = 1.0) -> None:
    """Let a record wait for something that is not its fault: no attempt is counted."""
    statement = text(
        "UPDATE parked_records SET due_at = clock_timestamp() + make_interval(secs => :wait) WHERE parking_id = :id"
    )
    connection.execute(statement, {"id": parking_id, "wait": seconds})


def note_dead(connection: Connection, parking_id: int) -> None:
    """Note that a record stands in the dead-letter topic now."""
    connection.execute(text("UPDATE parked_records SET state = 'dead' WHERE parking_id = :id"), {"id": parking_id})


def replay(connection: Connection, parking_id: int) -> bool:
    """Send a dead letter back to be tried anew; answer whether there was one."""
    return connection.execute(_REPLAY, {"parking_id": parking_id}).rowcount == 1


def discard(connection: Connection, parking_id: int) -> bool:
    """Drop a dead letter for good, so that those behind it follow; answer whether there was one."""
    statement = text("DELETE FROM parked_records WHERE parking_id = :id AND state = 'dead'")
    return connection.execute(statement, {"id": parking_id}).rowcount == 1


def listing(connection: Connection, parking_id: int | None = None) -> list[dict[str, Any]]:
    """Describe what is parked, without the payloads; ``parking_id`` narrows it to one record."""
    statement = text(
        """
        SELECT parking_id, state, topic, partition, "offset", key, headers, attempts, error, parked_at
        FROM parked_records WHERE CAST(:id AS bigint) IS NULL OR parking_id = :id ORDER BY parking_id LIMIT 1000
        """
    )
    return [dict(row._mapping) for row in connection.execute(statement, {"id": parking_id})]


def _parked(row: Row[Any]) -> Parked:
    record = Record(row.topic, row.partition, row.offset, row.key, row.value, row.headers)
    return Parked(row.parking_id, State(row.state), record, row.attempts, row.permanent, row.error)


def _headers_as_json(record: Record) -> str:
    return orjson.dumps({_storable(name): _storable(value) for name, value in record.headers.items()}).decode()


def _storable(value: str | None) -> str | None:
    """PostgreSQL's text holds everything but the character NUL."""
    return None if value is None else value.replace("\0", "\N{REPLACEMENT CHARACTER}")
