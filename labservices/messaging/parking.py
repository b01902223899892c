"""Parked records: retries and dead letters of records that can't be handled.

A record that always fails must neither block its partition forever nor be lost. So a failing record is parked in the
service's own database, and its partition continues. The record is retried a few times with increasing delays, and then
dead-lettered: a copy with a description of the failure goes to the dead-letter topic, ``SERVICE.dlq``. The record stays
in the database as a *dead letter* until an operator replays it (after removing the cause) or discards it.

Later records of the same order must not overtake it. They are parked behind it in the order of arrival, and each is
handled when no record before it is left. Other orders are not affected.

A record that is too large for the database or the topic is replaced by a stub: its position, its key, its CloudEvents
headers and the error, without the value.

One rule governs all of this: the first parked record of each order is retried when it is due, unless it is a dead
letter.
"""

import random
import re
from dataclasses import dataclass, field, replace
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

from labservices.contract import MAX_ATTEMPTS, MAX_RECORD_BYTES, RETRY_FIRST, RETRY_MAX
from labservices.record import InvalidRecord, Record


class State(StrEnum):
    """The state of a parked record, by what it waits for."""

    BEHIND = "behind"  # for the records before it
    RETRYING = "retrying"  # for its next attempt
    GIVEN_UP = "given_up"  # for its publication to the dead-letter topic
    DEAD = "dead"  # for a replay or discard


def parked_table(metadata: MetaData) -> Table:
    """Define the table of one service's parked records."""
    return Table(
        "parked_records",
        metadata,
        Column("parking_id", BigInteger, Identity(), primary_key=True),  # in the order of arrival
        Column("state", Text, CheckConstraint(f"state IN ({', '.join(repr(s.value) for s in State)})"), nullable=False),
        Column("topic", Text, nullable=False),
        Column("partition", Integer, nullable=False),
        Column("offset", BigInteger, nullable=False),
        Column("key", Text),  # the order's id, if the record is valid
        Column("value", LargeBinary),
        Column("headers", JSONB, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("permanent", Boolean, nullable=False),  # whether a retry is useless
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
    """The reason why a record could not be handled, and the number of attempts."""

    error: str
    attempts: int
    permanent: bool = field(default=False)

    @classmethod
    def of(cls, error: Exception, attempts: int) -> "Failure":
        """Create a failure from an exception; an `InvalidRecord` is permanent, since a retry can't make it valid."""
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        return cls(f"{name}: {error}"[:2000], attempts, isinstance(error, InvalidRecord))

    @property
    def state(self) -> State:
        """The next state of the record."""
        return State.GIVEN_UP if self.permanent or self.attempts >= MAX_ATTEMPTS else State.RETRYING

    @property
    def wait_seconds(self) -> float:
        """Seconds until the next attempt, with jitter so that many failing records are not retried at once."""
        if self.state is State.GIVEN_UP:
            return 0.0
        return min(RETRY_FIRST * 2.0 ** (self.attempts - 1), RETRY_MAX) * random.uniform(0.5, 1.5)


STUB_CHARACTERS = 1000
"""Maximum length of a stub's key, and of each of its headers."""

CE_HEADER = re.compile(r"ce_[a-z0-9]{1,40}")
STUB_HEADERS = 20
"""Maximum number of a stub's headers."""


def stub(record: Record) -> Record:
    """Return a record without its value: its position, and the start of its key and of its CloudEvents headers."""
    known = [(name, value[:STUB_CHARACTERS]) for name, value in record.headers.items() if CE_HEADER.fullmatch(name)]
    key = record.key and record.key[:STUB_CHARACTERS]
    return replace(record, key=key, value=None, headers=dict(known[:STUB_HEADERS]))


_PARK = text(
    """
    INSERT INTO parked_records
        (state, topic, partition, "offset", key, value, headers, attempts, permanent, error, due_at)
    VALUES (:state, :topic, :partition, :offset, :key, :value, CAST(:headers AS jsonb), :attempts, :permanent, :error,
        clock_timestamp() + make_interval(secs => :wait))
    ON CONFLICT (topic, partition, "offset") DO NOTHING
    """
)

# The first record of each order, unless it is dead. A record without a key has no order and waits for no other record.
_IS_FIRST = """
    state <> 'dead' AND (key IS NULL OR NOT EXISTS (
        SELECT FROM parked_records AS before WHERE before.key = it.key AND before.parking_id < it.parking_id))
"""

# Two processes of a service may query at the same time; with SKIP LOCKED, each gets a different record.
_NEXT_DUE = text(
    f"""
    SELECT * FROM parked_records AS it
    WHERE {_IS_FIRST} AND due_at <= clock_timestamp()
    ORDER BY parking_id LIMIT 1
    FOR UPDATE SKIP LOCKED
    """
)

_NEXT_DUE_IN = text(
    f"SELECT extract(epoch FROM min(due_at) - clock_timestamp()) FROM parked_records AS it WHERE {_IS_FIRST}"
)

_RECORD_FAILURE = text(
    """
    UPDATE parked_records
    SET state = :state, attempts = :attempts, permanent = :permanent, error = :error,
        due_at = clock_timestamp() + make_interval(secs => :wait)
    WHERE parking_id = :parking_id AND state <> 'dead'
    """
)

_REPLACE_BY_STUB = text(
    """
    UPDATE parked_records SET key = :key, value = NULL, headers = CAST(:headers AS jsonb), error = :error
    WHERE parking_id = :id
    """
)

_REPLAY = text(
    """
    UPDATE parked_records SET state = 'retrying', attempts = 0, permanent = false, due_at = clock_timestamp()
    WHERE parking_id = :parking_id AND state = 'dead'
    """
)


def park(connection: Connection, record: Record, state: State, failure: Failure | None = None) -> None:
    """Park a record, or the stub of a record that is too large, unless it is already parked."""
    if record.size > MAX_RECORD_BYTES:
        record = stub(record)
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
    """Return the next parked record that is due, locked until the transaction ends, or None."""
    row = connection.execute(_NEXT_DUE).one_or_none()
    return _parked(row) if row else None


def seconds_until_due(connection: Connection) -> float | None:
    """Return the seconds until the next record is due, or None if no record waits for a retry."""
    seconds = connection.execute(_NEXT_DUE_IN).scalar_one()
    return None if seconds is None else max(0.0, float(seconds))


def remove(connection: Connection, parking_id: int) -> None:
    """Delete a record that has been handled."""
    connection.execute(text("DELETE FROM parked_records WHERE parking_id = :id"), {"id": parking_id})


def record_failure(connection: Connection, parking_id: int, failure: Failure) -> None:
    """Record another failed attempt of a parked record."""
    values = {
        "parking_id": parking_id,
        "state": failure.state,
        "attempts": failure.attempts,
        "permanent": failure.permanent,
        "error": _storable(failure.error),
        "wait": failure.wait_seconds,
    }
    connection.execute(_RECORD_FAILURE, values)


def postpone(connection: Connection, parking_id: int, seconds: float = 1.0) -> None:
    """Delay a record without counting an attempt, since the record is not the cause of the delay."""
    statement = text(
        "UPDATE parked_records SET due_at = clock_timestamp() + make_interval(secs => :wait) WHERE parking_id = :id"
    )
    connection.execute(statement, {"id": parking_id, "wait": seconds})


def mark_dead(connection: Connection, parking_id: int) -> None:
    """Mark a record as dead after its publication to the dead-letter topic."""
    connection.execute(text("UPDATE parked_records SET state = 'dead' WHERE parking_id = :id"), {"id": parking_id})


def replace_by_stub(connection: Connection, parked: Parked, refusal: str) -> Parked:
    """Replace a parked record by its stub, since the dead-letter topic refuses the record; return the stub."""
    error = f"{parked.error or ''}\nThe dead-letter topic refuses the whole record: {refusal}"[-2500:].strip()
    shorter = replace(parked, record=stub(parked.record), error=error)
    values = {
        "id": parked.parking_id,
        "key": _storable(shorter.record.key),
        "headers": _headers_as_json(shorter.record),
        "error": _storable(error),
    }
    connection.execute(_REPLACE_BY_STUB, values)
    return shorter


def replay(connection: Connection, parking_id: int) -> bool:
    """Schedule a dead letter for a new series of attempts; return whether it exists."""
    return connection.execute(_REPLAY, {"parking_id": parking_id}).rowcount == 1


def discard(connection: Connection, parking_id: int) -> bool:
    """Delete a dead letter, so that the records behind it are handled; return whether it existed."""
    statement = text("DELETE FROM parked_records WHERE parking_id = :id AND state = 'dead'")
    return connection.execute(statement, {"id": parking_id}).rowcount == 1


def list_parked(connection: Connection, parking_id: int | None = None) -> list[dict[str, Any]]:
    """Return the parked records without their payloads, or only the record ``parking_id``."""
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
    """Replace NUL characters, which PostgreSQL's text type can't store."""
    return None if value is None else value.replace("\0", "\N{REPLACEMENT CHARACTER}")
