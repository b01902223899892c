"""From a Kafka record to an event: CloudEvents 1.0 in Kafka's binary mode.

The payload is the record's value; everything about the event stands in headers.
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

from labservices.shared.events import EVENTS, Event

# A name that is no UTF-8 makes the client's method return and raise at once. Python notices that only where a function
# is called from C, as here; called in the usual way, the process would crash.
_headers_of = operator.methodcaller("headers")

_DATASCHEMA = re.compile(r"^urn:sagalab:(?P<type>[A-Za-z]+):(?P<major>\d+)\.(?P<minor>\d+)$")


class InvalidRecord(Exception):
    """The record is not an event as the contract says."""


@dataclass(frozen=True)
class Record:
    """A record as it came from Kafka."""

    topic: str
    partition: int
    offset: int
    key: str | None
    value: bytes | None
    headers: Mapping[str, str] = field(default_factory=dict)
    written: datetime | None = None
    """The record's own time, where it is known."""


@dataclass(frozen=True)
class Envelope:
    """An event with what its record said about it."""

    record: Record
    event_id: UUID
    event: Event
    traceparent: str | None

    @property
    def made(self) -> datetime | None:
        """When the outbox row was made that the event comes from, if its record says so."""
        try:
            return datetime.fromisoformat(self.record.headers["ce_time"]).astimezone(UTC)
        except (KeyError, ValueError, OverflowError):
            return None


def read_message(message: Message) -> Record:
    """Read what Kafka's client gives as a record; a header without a value is left out.

    Where the name of one header is no text, all are: then nothing can be said of them.
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
        written=_time_of(message),
    )


def _time_of(message: Message) -> datetime | None:
    kind, milliseconds = message.timestamp()
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if kind != TIMESTAMP_NOT_AVAILABLE else None
    except (OverflowError, ValueError, OSError):  # whoever has written the record could write anything
        return None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def event_type(record: Record) -> type[Event] | None:
    """Find the type of a record's event; None for a type that is not known here, which is no error.

    Raises
    ------
    InvalidRecord
        When the record names no type at all.
    """
    name = record.headers.get("ce_type")
    if not name:
        raise InvalidRecord("no header ce_type")
    known = EVENTS.get(name)
    return known if known and known.topic == record.topic else None


def open_record(record: Record, expected: type[Event]) -> Envelope:
    """Take the event out of its record.

    Raises
    ------
    InvalidRecord
        When the key, the id or the payload is missing or wrong, or the schema's major version is not known.
    """
    _check_version(record.headers.get("ce_dataschema"), expected)
    if record.value is None:
        raise InvalidRecord("no payload")
    try:
        event_id = UUID(record.headers["ce_id"])
    except KeyError:
        raise InvalidRecord("no header ce_id") from None
    except ValueError:
        raise InvalidRecord("the header ce_id is no UUID") from None
    try:
        event = expected.model_validate_json(record.value)
    except ValidationError as error:
        places = ", ".join(f"{'.'.join(map(str, one['loc'])) or 'payload'}: {one['msg']}" for one in error.errors())
        raise InvalidRecord(f"the payload is no {expected.type()}: {places}") from None
    if record.key != str(event.order_id):
        raise InvalidRecord(f"the key is {record.key!r} where the order is {event.order_id}")
    return Envelope(record, event_id, event, record.headers.get("traceparent"))


def _check_version(dataschema: str | None, expected: type[Event]) -> None:
    if dataschema is None:  # CloudEvents leaves it to the writer
        return
    found = _DATASCHEMA.match(dataschema)
    major = expected.version.split(".")[0]
    if not found or found["type"] != expected.type() or found["major"] != major:
        raise InvalidRecord(f"the schema is {dataschema!r} where {expected.type()} {major}.x is known")
