"""The path of an event: from the outbox to its record, and from the record to the inboxes or a dead letter."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

from labservices.contract import MAX_RECORD_BYTES, SERVICES, acts_on, events_topic
from labstack.clients.broker import Record
from labstack.consistency.evidence import Row
from labstack.consistency.facts import Difference, Facts, is_relayed, payload_of

HEADERS = {
    "ce_id": "id",
    "ce_type": "type",
    "ce_source": "source",
    "ce_specversion": "specversion",
    "ce_dataschema": "dataschema",
    "traceparent": "traceparent",
    "causation_id": "causation_id",
}
"""The outbox column of each header; ``ce_time`` is compared as a time."""


def relay_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the events whose outbox row and records differ, or that lack one of them."""
    for event_id, (service, row) in facts.outbox.items():
        copies = facts.records.get(event_id, [])
        if not copies:
            yield row["aggregateid"], f"{row['type']} is in no topic"
        for what in sorted({what for copy in copies for what in _record_differences(service, row, copy)}):
            yield row["aggregateid"], f"the record of {row['type']} has another {what} than its row"
        if row["aggregatetype"] != service:
            yield row["aggregateid"], f"{row['type']} is for the topic of {row['aggregatetype']}"
        if event_id in facts.events and row["aggregateid"] in facts.orders:
            if row["source"] != f"urn:sagalab:{service}":
                yield row["aggregateid"], f"{row['type']} has the source {row['source']}"
            if not re.fullmatch(rf"urn:sagalab:{row['type']}:\d+\.\d+", row["dataschema"]):
                yield row["aggregateid"], f"{row['type']} has the schema {row['dataschema']}"
    published = {(row["aggregateid"], row["type"]) for _, row in facts.outbox.values()}
    for record in facts.strays:
        if is_relayed(record) and (record.key, record.type) not in published:
            yield record.key or "", f"the outbox has no row for the record {record.type}"


def _record_differences(service: str, row: Row, record: Record) -> Iterator[str]:
    if record.topic != events_topic(service):
        yield "topic"
    if record.key != row["aggregateid"]:
        yield "key"
    if payload_of(record) != row["payload"]:
        yield "payload"
    yield from (name for name, column in HEADERS.items() if record.headers.get(name) != row[column])
    if record.headers.get("content-type") != "application/json":
        yield "content-type"
    if not _is_time(record.headers.get("ce_time"), row["created_at"]):
        yield "ce_time"


def _is_time(text: str | None, at: datetime) -> bool:
    try:
        return datetime.fromisoformat(text or "") == at
    except (ValueError, TypeError):
        return False


def expected_in_inbox(facts: Facts) -> Mapping[str, list[tuple[str, str, str]]]:
    """Return for each service the events on which it must act: ID, order and type."""
    rows = [(service, (i, row["aggregateid"], row["type"])) for i, (service, row) in facts.outbox.items()]
    sent = [(e.service, (e.id, e.order_id, e.type)) for e in facts.events.values() if e.id not in facts.outbox]
    events = [*rows, *sent]
    return {
        reader: [event for writer, event in events if writer != reader and event[2] in acts_on(reader)]
        for reader in SERVICES
    }


def inbox_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the events that a service did not handle exactly once, and inbox rows that no record explains."""
    places = {(r.topic, r.partition, r.offset): r for r in facts.seen.records}
    for reader, events in expected_in_inbox(facts).items():
        inbox = facts.rows(reader, "inbox")
        times = Counter(row["event_id"] for row in inbox)
        parked = {row["headers"].get("ce_id") for row in facts.rows(reader, "parked_records")}
        for event_id, order_id, kind in events:
            if times[event_id] != 1 and (times[event_id] or event_id not in parked):
                yield order_id, f"{kind} is {times[event_id]} times in the inbox of {reader}"
        for row in inbox:
            record = places.get((row["topic"], row["partition"], row["offset"]))
            offender = record.key if record and record.key else row["event_id"]
            if record is None or (record.headers.get("ce_id"), record.type) != (row["event_id"], row["type"]):
                yield offender, f"the inbox of {reader} has {row['type']} at the position of another record, or of none"
            if row["consumer"] != reader or row["type"] not in acts_on(reader):
                yield offender, f"the inbox of {reader} has {row['type']} of the consumer {row['consumer']}"


def copy_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the orders of which an event was published under several IDs, which no inbox can recognize."""
    for (order_id, kind), times in Counter(facts.named.values()).items():
        if times > 1 and order_id in facts.orders and order_id not in facts.held:
            yield order_id, f"{kind} was published under {times} IDs"


def parking_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the parked records that differ from their Kafka record, and the dead letters without their copy."""
    places = {(r.topic, r.partition, r.offset): r for r in facts.seen.records}
    letters = {letter.headers.get("dlq.id"): letter for letter in facts.seen.letters}
    for service in facts.seen.tables:
        for row in facts.rows(service, "parked_records"):
            name = f"{service}-{row['parking_id']}"
            if not _is_copy(row, places.get((row["topic"], row["partition"], row["offset"]))):
                yield row["key"] or name, f"{name} is not the record at its position"
            if row["state"] == "dead" and not _describes(letters.get(name), row):
                yield row["key"] or name, f"{name} is not in the dead-letter topic, or differs there"


def _is_copy(row: Row, record: Record | None) -> bool:
    """Return whether a parked record has the content of a record, or is the stub of one that is too large."""
    if record is None:
        return False
    headers = {_stored(name): _stored(value) for name, value in record.headers.items()}
    key, value = _stored(record.key), record.value
    if row["value"] is None and value is not None and _may_be_stub(row, record):
        starts = [(row["key"], key), *((text, headers.get(name)) for name, text in row["headers"].items())]
        return all((part or "") == (whole or "")[: len(part or "")] for part, whole in starts)
    is_same = bytes(value or b"") == bytes(row["value"] or b"") and row["key"] == key
    return is_same and row["headers"].items() <= headers.items()


def _may_be_stub(row: Row, record: Record) -> bool:
    """Return whether a service may park a record without its value."""
    headers = sum(len(name) + len(value or "") for name, value in record.headers.items())
    size = len(record.key or "") + len(record.value or b"") + headers
    return size > MAX_RECORD_BYTES or "refuses the whole record" in (row["error"] or "")


def _describes(letter: Record | None, row: Row) -> bool:
    """Return whether the copy in the dead-letter topic has the content and the failure of a dead letter."""
    if letter is None or not _is_copy(row, letter):
        return False
    story = {"dlq.attempts": str(row["attempts"]), "dlq.error": row["error"] or ""}
    return all(_stored(letter.headers.get(name)) == value for name, value in story.items())


def _stored(text: str | None) -> str | None:
    """Return a text as PostgreSQL stores it: without NUL characters."""
    return text and text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def position_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the consumers whose position is beyond the end of a partition, so that they would skip records."""
    for service, committed in facts.seen.committed.items():
        for (topic, partition), offset in committed.items():
            end = facts.seen.ends.get((topic, partition))
            if end is not None and offset > end:
                yield f"{service} in {topic}[{partition}]", f"the position is {offset}, but the end is {end}"
