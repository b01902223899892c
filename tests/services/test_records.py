"""Records: valid events, ignored records and rejected records."""

import json
from uuid import uuid4

import pytest

from labservices.events import EVENTS, InventoryReserved, PaymentFailed
from labservices.messaging.handling import Outcome
from labservices.record import Record
from tests.services.world import World, changed, make_order_created, record_of


def handle(world: World, record: Record) -> Outcome:
    return world.payment.runtime.handling.handle(record)


def make_record() -> Record:
    return record_of(InventoryReserved.about(make_order_created(), reservation_id=uuid4()))


def test_unknown_and_foreign_types_are_ignored(world: World) -> None:
    """An unknown type, an irrelevant type and a record in the wrong topic are ignored without an effect."""
    record = make_record()
    assert handle(world, changed(record, headers={**record.headers, "ce_type": "Canary"}, value=b"{}")) == "ignored"
    assert (
        handle(world, record_of(PaymentFailed.about(make_order_created(), payment_id=uuid4(), reason="r"))) == "ignored"
    )
    assert handle(world, changed(record, topic="order.events")) == "ignored"
    assert world.payment.rows("inbox") == []


def test_an_unknown_field_and_a_later_minor_version_are_tolerated(world: World) -> None:
    """A writer may add fields; the reader uses the fields that it knows."""
    record = make_record()
    value = json.dumps({**json.loads(record.value or b""), "gift": True}).encode()
    headers = {**record.headers, "ce_dataschema": "urn:sagalab:InventoryReserved:1.7"}
    assert handle(world, changed(record, value=value, headers=headers)) is Outcome.HANDLED


def headers_without(record: Record, header: str) -> dict[str, str]:
    return {name: value for name, value in record.headers.items() if name != header}


@pytest.mark.parametrize(
    "fault",
    [
        "no key",
        "another key",
        "no value",
        "no JSON",
        "no UTF-8",
        "an array",
        "a field missing",
        "a text for a number",
        "no type",
        "no id",
        "an id that is none",
        "a later major version",
        "another schema",
    ],
)
def test_invalid_record_is_parked_for_the_dead_letter_topic(world: World, fault: str) -> None:
    """An invalid record is parked unchanged for the dead-letter topic, with the reason; no other row is written."""
    good = make_record()
    payload = json.loads(good.value or b"")
    bad = {
        "no key": lambda: changed(good, key=None),
        "another key": lambda: changed(good, key=str(uuid4())),
        "no value": lambda: changed(good, value=None),
        "no JSON": lambda: changed(good, value=b"{"),
        "no UTF-8": lambda: changed(good, value=b"\xff\xfe"),
        "an array": lambda: changed(good, value=b"[]"),
        "a field missing": lambda: changed(good, value=json.dumps(payload | {"items": []}).encode()),
        "a text for a number": lambda: changed(good, value=json.dumps(payload | {"total_cents": "1"}).encode()),
        "no type": lambda: changed(good, headers=headers_without(good, "ce_type")),
        "no id": lambda: changed(good, headers=headers_without(good, "ce_id")),
        "an id that is none": lambda: changed(good, headers={**good.headers, "ce_id": "1"}),
        "a later major version": lambda: changed(
            good, headers={**good.headers, "ce_dataschema": "urn:sagalab:InventoryReserved:2.0"}
        ),
        "another schema": lambda: changed(good, headers={**good.headers, "ce_dataschema": "urn:other"}),
    }[fault]()
    assert handle(world, bad) is Outcome.FAILED
    (parked,) = world.payment.rows("parked_records")
    assert (parked.state, parked.attempts, parked.permanent) == ("given_up", 1, True)
    assert (parked.key, parked.value, parked.headers) == (bad.key, bad.value, dict(bad.headers))
    assert "InvalidRecord" in parked.error
    assert world.payment.rows("inbox") == []
    assert world.payment.rows("payments") == []


def test_every_event_survives_a_round_trip_through_the_outbox(world: World) -> None:
    """Each published event type is read back unchanged."""
    world.place()
    world.place(destination="utopia")
    cancelled = world.place(customer_id="pip")
    world.order.http.post(f"/orders/{cancelled}/cancel")
    world.settle()
    for harness in world.harnesses.values():
        for row in harness.rows("outbox"):
            event = EVENTS[row.type].model_validate_json(json.dumps(row.payload))
            assert event.model_dump(mode="json") == row.payload
            assert event.order_id == row.aggregateid
