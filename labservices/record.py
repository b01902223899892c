"""Conversion of Kafka records to events: CloudEvents 1.0 in Kafka's binary mode.

The payload is the record's value; the headers hold the event's metadata.
"""

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message
from pydantic import ValidationError

from labservices.contract import MAX_RECORD_BYTES
from labservices.events import EVENTS, Event

# If a header's name is not UTF-8, the client's method both returns a value and sets an exception. Python detects that
# only when C code calls the method. `methodcaller` is C code; a direct call would crash the process.
_headers_of = operator.methodcaller("headers")

_DATASCHEMA = re.compile(r"^urn:sagalab:(?P<type>[A-Za-z]+):(?P<major>\d+)\.(?P<minor>\d+)$")


class InvalidRecord(Exception):
    """The record is not an event that conforms to the contract."""


@dataclass(frozen=True)
class Record:
    """A record as received from Kafka."""

    topic: str
    partition: int
    offset: int
    key: str | None
    value: bytes | None
    headers: Mapping[str, str] = field(default_factory=dict)
    written_at: datetime | None = None
    """The record's timestamp, if it is known."""

    @property
    def size(self) -> int:
        """The approximate size of key, value and headers in bytes."""
        headers = sum(len(name) + len(value) for name, value in self.headers.items())
        return len(self.key or "") + len(self.value or b"") + headers


@dataclass(frozen=True)
class Envelope:
    """An event with the metadata of its record."""

    record: Record
    event_id: UUID
    event: Event
    traceparent: str | None

    @property
    def created_at(self) -> datetime | None:
        """The creation time of the event's outbox row, if the record has it."""
        try:
            return datetime.fromisoformat(self.record.headers["ce_time"]).astimezone(UTC)
        except (KeyError, ValueError, OverflowError):
            return None


def read_message(message: Message) -> Record:
    """Convert a message of the Kafka client to a record, leaving out headers without a value.

    If the name of any header is not valid text, the client can't read the headers, and all are left out.
    """
    try:
        headers = cast("list[tuple[str, bytes | None]]", _headers_of(message) or [])
    except (SystemError, UnicodeDecodeError):
        headers = []
    return Record(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        key=None if message.key() is None else _text(message.key()),
        value=message.value(),
        headers={name: _text(value) for name, value in headers if value is not None},
        written_at=_time_of(message),
    )


def _time_of(message: Message) -> datetime | None:
    kind, milliseconds = message.timestamp()
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if kind != TIMESTAMP_NOT_AVAILABLE else None
    except (OverflowError, ValueError, OSError):  # a producer can write any timestamp
        return None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def event_type(record: Record) -> type[Event] | None:
    """Return the type of a record's event, or None for an unknown type, which is not an error.

    Raises
    ------
    InvalidRecord
        If the record has no type.
    """
    name = record.headers.get("ce_type")
    if not name:
        raise InvalidRecord("the header ce_type is missing")
    known = EVENTS.get(name)
    return known if known and known.topic == record.topic else None


def open_record(record: Record, expected: type[Event]) -> Envelope:
    """Parse and validate the event in a record.

    Raises
    ------
    InvalidRecord
        If the key, the id or the payload is missing or invalid, the record is too large, or the schema's major version
        is unknown.
    """
    if record.size > MAX_RECORD_BYTES:
        raise InvalidRecord(f"the record has {record.size} bytes; at most {MAX_RECORD_BYTES} are allowed")
    _check_version(record.headers.get("ce_dataschema"), expected)
    if record.value is None:
        raise InvalidRecord("the payload is missing")
    try:
        event_id = UUID(record.headers["ce_id"])
    except KeyError:
        raise InvalidRecord("the header ce_id is missing") from None
    except ValueError:
        raise InvalidRecord("the header ce_id is not a UUID") from None
    try:
        event = expected.model_validate_json(record.value)
    except ValidationError as error:
        problems = ", ".join(f"{'.'.join(map(str, one['loc'])) or 'payload'}: {one['msg']}" for one in error.errors())
        raise InvalidRecord(f"the {expected.type()} payload is invalid: {problems}") from None
    if record.key != str(event.order_id):
        raise InvalidRecord(f"the key is {record.key!r}; expected the order id {event.order_id}")
    return Envelope(record, event_id, event, record.headers.get("traceparent"))


def _check_version(dataschema: str | None, expected: type[Event]) -> None:
    if dataschema is None:  # optional in CloudEvents
        return
    found = _DATASCHEMA.match(dataschema)
    major = expected.version.split(".")[0]
    if not found or found["type"] != expected.type() or found["major"] != major:
        raise InvalidRecord(f"the schema is {dataschema!r}; expected {expected.type()} {major}.x")
