"""The relay when it has lost something, and the records that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker

from labstack import LabError, broker, canary
from labstack.waiting import wait_until
from tests.stack.labs import ROOT, Grounds

ASYNCAPI = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))


def lose_the_slot(grounds: Grounds, service: str) -> None:
    """Drop a service's replication slot while Connect is down."""
    grounds.lab.stop("connect")
    with psycopg.connect(grounds.lab.endpoints.databases[service], autocommit=True) as connection:
        free = "SELECT count(*) FROM pg_replication_slots WHERE active"
        assert wait_until(lambda: connection.execute(free).fetchone() == (0,), 15)
        connection.execute("SELECT pg_drop_replication_slot('outbox')")


def test_a_lost_slot_is_told_and_reset_mends_it(shared: Grounds) -> None:
    """Without its slot a connector can't go on: `start` and `status` say so; after `reset` orders go round again."""
    lose_the_slot(shared, "payment")
    with pytest.raises(LabError, match="payment"):
        shared.lab.start("connect")
    assert shared.lab.status(memory=False).state == "degraded"
    shared.lab.reset()
    assert shared.lab.status(memory=False).state == "ready"
    assert len(shared.lab.demo()) > 0
    assert all(verdict.holds for verdict in shared.lab.check(wait_for_rest=20))


def test_records_keep_the_contract(shared: Grounds) -> None:
    """Every record that the saga makes has the headers and the payload that docs/asyncapi.yaml promises."""
    shared.lab.reset()
    stories = shared.lab.demo()
    orders = {story.order["order_id"] for story in stories}
    records = [r for r in broker.read_all(shared.lab.endpoints.kafka, _topics(shared)) if r.type != canary.TYPE]
    assert {record.key for record in records} == orders
    headers = _validator("#/components/schemas/Headers")
    for record in records:
        told = {name: value for name, value in record.headers.items() if name != "id"}
        assert list(headers.iter_errors(told)) == []
        payload = _validator(ASYNCAPI["components"]["messages"][record.type]["payload"]["$ref"])
        assert list(payload.iter_errors(json.loads(record.value or b"null"))) == []
        channel = next(c for c in ASYNCAPI["channels"].values() if record.type in c["messages"])
        assert channel["address"] == record.topic


def test_the_same_order_stays_in_one_partition(shared: Grounds) -> None:
    """All events of an order lie in one partition of each topic, so that they keep their order there."""
    shared.lab.demo()
    places: dict[tuple[str | None, str], set[int]] = {}
    for record in broker.read_all(shared.lab.endpoints.kafka, _topics(shared)):
        if record.type != canary.TYPE:
            places.setdefault((record.key, record.topic), set()).add(record.partition)
    assert {len(partitions) for partitions in places.values()} == {1}


def _topics(grounds: Grounds) -> list[str]:
    return [service.events_topic for service in grounds.lab.services]


def _validator(reference: str) -> Draft202012Validator:
    schema = {"$ref": reference, "components": ASYNCAPI["components"]}
    return Draft202012Validator(schema, format_checker=FormatChecker())


def test_the_event_contracts_are_there() -> None:
    """What the records are held against is not empty."""
    assert len(ASYNCAPI["components"]["messages"]) == 14
    assert Path(ROOT / "docs" / "asyncapi.yaml").stat().st_size > 10_000
