"""Records in the event topics that no service has written; they stop no service."""

from __future__ import annotations

import ctypes
import json
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import confluent_kafka.cimpl
from confluent_kafka import Message, Producer

from labservices.contract import SERVICES, acts_on
from labstack import Lab
from labstack.clients import broker
from labstack.scenarios.demo import run_demo
from labstack.waiting import wait_until
from tests.stack.labs import LabHarness
from tests.stack.one_order import place_order, wait_for_outcome
from tests.stack.test_reset import table_rows


@dataclass(frozen=True)
class HostileRecord:
    """A record that does not belong in an event topic; if `is_dead`, services that act on it must dead-letter it."""

    key: bytes | None = b"?"  # `publish` replaces the question mark with an order ID
    value: bytes | None = b"{}"
    headers: Mapping[str, str | bytes | None] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    is_dead: bool = True
    is_compressed: bool = False


BIG = 1024 * 1024 - 2000
"""Bytes; this leaves room for the headers in the largest record that the broker accepts."""

HOSTILE_RECORDS = {
    "not JSON": HostileRecord(value=b"<order/>"),
    "JSON, but no object": HostileRecord(value=b"[]"),
    "an object, but no event": HostileRecord(value=b'{"order_id": 7}'),
    "no value": HostileRecord(value=None),
    "text that is none": HostileRecord(value=b'{"order_id": "\xc3\x28"}'),
    "NUL in text": HostileRecord(value=b'{"order_id": "\\u0000"}', headers={"ce_source": "\0", "traceparent": "\0"}),
    "binary garbage": HostileRecord(key=b"\xc3\x28?", value=random.Random(7).randbytes(5000)),
    "a long key": HostileRecord(key=b"?" + random.Random(8).randbytes(100_000).hex().encode()),
    "no key": HostileRecord(key=None),
    "no headers": HostileRecord(without=("ce_id", "ce_type", "ce_dataschema")),
    "no ce_id": HostileRecord(without=("ce_id",)),
    "no ce_type": HostileRecord(without=("ce_type",)),
    "a ce_id that is none": HostileRecord(headers={"ce_id": "seven"}),
    "headers that are no text": HostileRecord(headers={"ce_id": b"\xff\xfe", "x": b"\xff", "y": None, "": b""}),
    "a thousand headers": HostileRecord(headers={f"header-{n}": "x" * 50 for n in range(1000)}),
    "1 MB": HostileRecord(value=b'{"order_id": "' + b"x" * BIG + b'"}'),
    "3 MB, compressed": HostileRecord(value=b'{"order_id": "' + b"x" * 3 * BIG + b'"}', is_compressed=True),
    "an unknown major version": HostileRecord(headers={"ce_dataschema": "urn:sagalab:{type}:2.0"}),
    "another event's schema": HostileRecord(headers={"ce_dataschema": "urn:sagalab:Refreshments:1.0"}),
    "an unknown type": HostileRecord(headers={"ce_type": "OrderApplauded"}, is_dead=False),
    "an unknown type, with no key": HostileRecord(key=None, headers={"ce_type": "OrderApplauded"}, is_dead=False),
    "an empty record": HostileRecord(key=None, value=None, without=("ce_id", "ce_type", "ce_dataschema")),
}
EVENT_TYPES = {
    "order": "OrderCreated",
    "inventory": "InventoryReserved",
    "payment": "PaymentCompleted",
    "shipping": "ShipmentScheduled",
}


def publish(lab: Lab, hostile: HostileRecord, service: str) -> tuple[set[str], str, int, int]:
    """Publish a record to a service's topic; return the services that must dead-letter it, and its position."""
    codec = "zstd" if hostile.is_compressed else "none"
    where = {"bootstrap.servers": lab.endpoints.kafka, "broker.address.family": "v4"}
    producer = Producer({**where, "message.max.bytes": 4 * BIG, "compression.codec": codec})
    kind = EVENT_TYPES[service]
    usual = {"ce_id": str(uuid.uuid4()), "ce_type": kind, "ce_dataschema": "urn:sagalab:{type}:1.0"}
    headers = {
        name: value.replace("{type}", kind) if isinstance(value, str) else value
        for name, value in {**usual, **hostile.headers}.items()
        if name not in hostile.without
    }
    delivered: list[Message] = []
    producer.produce(
        f"{service}.events",
        hostile.value,
        hostile.key and hostile.key.replace(b"?", str(uuid.uuid4()).encode()),
        headers=headers,
        on_delivery=lambda error, message: delivered.append(message) if error is None else None,
    )
    producer.flush(20)
    (place,) = delivered
    readers = {name for name in SERVICES if name != service and kind in acts_on(name)}
    if "ce_type" in hostile.without:
        readers = set(SERVICES) - {service}
    return readers if hostile.is_dead else set(), place.topic() or "", place.partition() or 0, place.offset() or 0


def test_hostile_records_stop_no_service(shared: LabHarness) -> None:
    """Each record is dead-lettered by the services that act on its type, or ignored, and orders continue."""
    lab = shared.lab
    lab.reset()
    pids = shared.pids()
    published = [publish(lab, hostile, service) for hostile in HOSTILE_RECORDS.values() for service in EVENT_TYPES]
    expected = {(reader, *place) for readers, *place in published for reader in readers}

    def dead_letter_positions() -> set[tuple[str, str, int, int]]:
        return {(one.service, one.topic, one.partition, one.offset) for one in lab.dead_letters.all()}

    wait_until(lambda: dead_letter_positions() == expected, 60, interval=0.5)
    assert dead_letter_positions() == expected
    assert {letter.attempts for letter in lab.dead_letters.all()} == {1}
    letters = {f"{s}.dlq" for s in EVENT_TYPES}
    names = ("dlq.service", "dlq.topic", "dlq.partition", "dlq.offset")
    positions = {tuple(r.headers[name] for name in names) for r in broker.read_all(lab.endpoints.kafka, letters)}
    assert positions == {tuple(map(str, one)) for one in expected}

    assert wait_for_outcome(lab, place_order(lab)) == ("COMPLETED", None)
    assert wait_for_outcome(lab, place_order(lab, destination="tristan-da-cunha")) == ("CANCELLED", "no_carrier")
    assert lab.status(memory=False).complaints == {}
    assert shared.pids() == pids
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []
    shared.run_checked("dead-letters", "list")
    lab.reset()
    assert lab.dead_letters.all() == []


def publish_undecodable_header(lab: Lab, topic: str) -> None:
    """Publish a record with a header name that is not UTF-8, with librdkafka, since the Python client can't do that."""
    c = ctypes.CDLL(confluent_kafka.cimpl.__file__)
    c.rd_kafka_conf_new.restype = c.rd_kafka_new.restype = ctypes.c_void_p
    error = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(c.rd_kafka_conf_new())
    c.rd_kafka_conf_set(conf, b"bootstrap.servers", lab.endpoints.kafka.encode(), error, 512)
    producer = ctypes.c_void_p(c.rd_kafka_new(0, conf, error, 512))
    as_topic, as_value, as_key, as_flags, as_header, end = map(ctypes.c_int, (1, 4, 5, 7, 9, 0))
    copy, key = ctypes.c_int(2), uuid.uuid4().hex.encode()
    record = (as_value, b"{}", ctypes.c_size_t(2), as_key, key, ctypes.c_size_t(len(key)))
    headers = (as_header, b"ce_type", b"Canary", ctypes.c_ssize_t(6), as_header, b"\xff", b"", ctypes.c_ssize_t(0))
    words = (as_topic, topic.encode(), as_flags, copy, *record, *headers, end)
    assert c.rd_kafka_producev(producer, *words) == 0
    assert c.rd_kafka_flush(producer, 20_000) == 0
    c.rd_kafka_destroy(producer)


def test_undecodable_header_name_crashes_no_process(shared: LabHarness) -> None:
    """A non-UTF-8 header name, which can crash the client library, crashes neither a service nor the referee."""
    lab = shared.lab
    lab.reset()
    run_demo(lab.endpoints)
    pids = shared.pids()
    for service in EVENT_TYPES:
        publish_undecodable_header(lab, f"{service}.events")
    wait_until(lambda: len(lab.dead_letters.all()) == 12, 20, interval=0.2)
    assert sorted(letter.service for letter in lab.dead_letters.all()) == sorted(list(EVENT_TYPES) * 3)
    assert shared.pids() == pids
    assert wait_for_outcome(lab, place_order(lab)) == ("COMPLETED", None)
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []
    lab.reset()


def test_repeated_events_of_a_newer_minor_version_have_no_effect(shared: LabHarness) -> None:
    """Events of a COMPLETED order with new IDs and unknown fields have no effect, and the referee reports them."""
    lab = shared.lab
    lab.reset()
    order = place_order(lab)
    assert wait_for_outcome(lab, order) == ("COMPLETED", None)
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []
    producer = Producer({"bootstrap.servers": lab.endpoints.kafka, "broker.address.family": "v4"})
    again: set[str] = set()
    for record in broker.read_all(lab.endpoints.kafka, [f"{service}.events" for service in EVENT_TYPES]):
        value = json.dumps(json.loads(record.value or b"") | {"weather": {"in": "Lisbon"}})
        new = {"ce_id": str(uuid.uuid4()), "ce_dataschema": f"urn:sagalab:{record.type}:1.7", "ce_weather": "fair"}
        headers: dict[str, str | bytes | None] = {**record.headers, **new}
        producer.produce(record.topic, value, record.key, headers=headers)
        again.add(new["ce_id"])
    producer.flush(20)

    def rows(of_inbox: bool) -> dict[str, list[str]]:
        return {table: there for table, there in table_rows(lab).items() if table.endswith(".inbox") == of_inbox}

    before = rows(of_inbox=False)
    assert wait_until(lambda: all(one in str(rows(of_inbox=True)) for one in again), 20, interval=0.2)
    assert rows(of_inbox=False) == before
    assert lab.dead_letters.all() == []
    violated = {verdict.name: verdict.offenders for verdict in lab.check(wait_for_rest=60) if not verdict.holds}
    assert violated == {"inboxes-hold-each-event-once": [order]}
    lab.reset()
