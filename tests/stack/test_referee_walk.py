"""A walk over all evidence of the referee: other evidence confirms every value of every row and record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from labservices.contract import PUBLISHES, SERVICES, TABLES
from labstack.clients.broker import Record
from labstack.consistency.evidence import Evidence, Row
from labstack.consistency.invariants import check_invariants
from tests.stack.all_outcomes import Case, make_case
from tests.stack.labs import LabHarness
from tests.suite.chance import short_sample


@pytest.fixture(scope="module")
def case(_shared: Callable[[], LabHarness]) -> Case:
    """Return the evidence of a lab at rest with orders of all outcomes. The tests change only this copy."""
    return make_case(_shared().lab)


FREE = {
    "accounts.name": "nothing else has it",
    "destinations.name": "nothing else has it",
    "idempotency_keys.key": "the client's choice",
    "ledger_entries.entry_id": "nothing refers to it",
    "stock_movements.movement_id": "nothing refers to it",
    "parked_records.permanent": "it has no effect on a dead letter",
    "parked_records.state": "another state than dead keeps the lab from rest",
}
"""Columns that no other evidence can confirm, and why."""

STEP_KEYS = ("payment_id", "shipment_id", "reservation_id")
FREE_HEADERS = {"id"}
"""Debezium adds it; no service reads it."""


def is_free(table: str, column: str, row: Row) -> bool:
    """Return whether no other evidence can confirm this value."""
    if f"{table}.{column}" in FREE:
        return True
    if table == "destinations":  # a destination is only confirmed by the shipments that go there
        return True
    return row.get("status") == "TOMBSTONE" and column in STEP_KEYS  # a tombstone was never published


def changed(value: Any) -> list[Any]:
    """Return values near a value, of its kind."""
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, value - 1]
        case None:
            return ["01890000-0000-7000-8000-000000000000"]
        case str():
            return [value + "x", *([] if not value else [value[:-1]])]
        case bytes():
            return [value + b" "]
        case datetime():
            return [value + timedelta(microseconds=1)]
        case list():
            return [value[:-1], [*value, *value]] if value else [[{"sku": "earl-grey", "quantity": 1}]]
        case dict():
            return [{**value, name: changed(one)[0]} for name, one in value.items()]
    raise AssertionError(f"{value!r} is of an unknown kind")


def is_found(evidence: Evidence) -> bool:
    """Return whether the referee finds a violation."""
    return any(verdict.holds is False for verdict in check_invariants(evidence, at_rest=True))


def samples(case: Case, service: str, table: str) -> list[Row]:
    """Return the rows of the orders of each outcome, or the first rows of a table without orders."""
    rows = case.evidence.rows(service, table)
    key = "aggregateid" if table == "outbox" else "order_id"
    of_orders = [row for row in rows if row.get(key) in case.orders.values()]
    others = [row for row in rows if row.get(key) is None]
    return [*of_orders, *others[: 12 if table == "inbox" else 2]]


@pytest.mark.parametrize("service", short_sample(SERVICES, 2))
def test_every_value_is_confirmed(case: Case, service: str) -> None:
    """A changed value in any column of any row violates an invariant, unless nothing else has that value."""
    missed, walked = [], set()
    for table in TABLES[service]:
        for row in samples(case, service, table):
            for column, value in list(row.items()):
                walked.add((table, column))
                if is_free(table, column, row):
                    continue
                for other in changed(value):
                    row[column] = other
                    if not is_found(case.evidence):
                        missed.append(f"{table}.{column}: {value!r} -> {other!r} ({row.get('status', '')})")
                row[column] = value
    assert missed == []
    assert {table for table, _ in walked} >= {t for t in TABLES[service] if case.evidence.rows(service, t)}
    assert not is_found(case.evidence)


@pytest.mark.parametrize(("cents", "holds"), [(-1, False), (0, True)])
def test_balance_below_zero_is_named(case: Case, cents: int, holds: bool) -> None:
    """A balance of one cent less than nothing violates its own invariant, and an empty account does not."""
    account = case.evidence.rows("payment", "accounts")[0]
    before = account["balance_cents"]
    account["balance_cents"] = cents
    try:
        verdicts = {verdict.name: verdict for verdict in check_invariants(case.evidence, at_rest=True)}
    finally:
        account["balance_cents"] = before
    assert verdicts["no-balance-is-below-zero"].holds is holds


@pytest.mark.parametrize("service", SERVICES)
def test_every_row_is_confirmed(case: Case, service: str) -> None:
    """A row that is deleted, or there twice, violates an invariant."""
    missed = []
    for table in TABLES[service]:
        rows = case.evidence.rows(service, table)
        for row in samples(case, service, table):
            place = rows.index(row)
            for what, slice_ in {"deleted": [], "there twice": [row, dict(row)]}.items():
                rows[place : place + 1] = slice_
                if not is_found(case.evidence) and (table, what) not in UNCONFIRMED_ROWS:
                    missed.append(f"{table} {what}: {row}")
                rows[place : place + len(slice_)] = [row]
    assert missed == []
    assert not is_found(case.evidence)


UNCONFIRMED_ROWS = {
    ("idempotency_keys", "deleted"): "no other evidence says that the client had a key",
    ("idempotency_keys", "there twice"): "its primary key forbids it, and two keys may name one order",
    ("destinations", "deleted"): "no order goes there",
    ("destinations", "there twice"): "its primary key forbids it",
    ("parked_records", "deleted"): "an operator may discard a dead letter",
    ("parked_records", "there twice"): "its primary key forbids it",
}


def rewritten(record: Record) -> Iterator[tuple[str, Record]]:
    """Yield a record with one of its parts changed."""
    yield "topic", replace(record, topic="payment.events" if record.topic != "payment.events" else "order.events")
    yield "key", replace(record, key="01890000-0000-7000-8000-000000000000")
    payload = orjson.loads(record.value or b"{}")
    for other in changed(payload):
        yield "payload", replace(record, value=orjson.dumps(other))
    yield "payload", replace(record, value=b"")
    for name, value in record.headers.items():
        if name not in FREE_HEADERS:
            for text in changed(value):
                yield name, replace(record, headers={**record.headers, name: text})


def test_every_record_is_confirmed(case: Case) -> None:
    """A record with another topic, key, header or payload, or that is missing, violates an invariant."""
    missed = []
    records = case.evidence.records
    for place, record in enumerate(list(records)):
        if record.key not in case.orders.values():
            continue
        for what, other in rewritten(record):
            records[place] = other
            if not is_found(case.evidence):
                missed.append(f"{record.type}: {what}")
        records[place] = record
        if not is_found(replace(case.evidence, records=[*records[:place], *records[place + 1 :]])):
            missed.append(f"{record.type}: missing")
    assert missed == []


@pytest.mark.parametrize("has_time", [True, False], ids=["relayed", "sent"])
def test_every_copy_under_another_id_is_found(case: Case, has_time: bool) -> None:
    """A record of the same event under another ID, without an outbox row, violates an invariant, for every type."""
    found = set()
    for record in case.evidence.records:
        if record.key in case.orders.values():
            headers: dict[str, str | None] = {**record.headers, "ce_id": "01890000-0000-7000-8000-000000000000"}
            if not has_time:
                del headers["ce_time"]
            copy = replace(record, headers=headers, offset=record.offset + 1000)
            assert is_found(replace(case.evidence, records=[*case.evidence.records, copy])), record.type
            found.add(record.type)
    assert len(found) >= 12
    assert found <= {kind for kinds in PUBLISHES.values() for kind in kinds}


FREE_FIELDS = {
    "created_at": "no other evidence has the time",
    "traceparent": "a trace is complete or not",
    "id": "walked above",
    "aggregateid": "walked above",
}


def test_events_that_differ_in_row_and_record_alike_are_found(case: Case) -> None:
    """An event whose row and record were changed alike violates an invariant, whatever column or field was changed."""
    missed = []
    headers = {"type": "ce_type", "source": "ce_source", "dataschema": "ce_dataschema", "causation_id": "causation_id"}
    for service in SERVICES:
        for row in samples(case, service, "outbox"):
            (place,) = [n for n, r in enumerate(case.evidence.records) if r.headers["ce_id"] == row["id"]]
            record = case.evidence.records[place]
            for column, value in list(row.items()):
                for other in changed(value) if column in {*headers, "payload"} else ():
                    row[column] = other
                    case.evidence.records[place] = with_column(record, headers.get(column), other)
                    if not is_found(case.evidence):
                        missed.append(f"{row['type']}.{column}: {difference(value, other)}")
                row[column] = value
                case.evidence.records[place] = record
    assert missed == []
    assert not is_found(case.evidence)


def with_column(record: Record, header: str | None, value: Any) -> Record:
    """Return the record of a row with this value in the column of a header, or in the payload."""
    if header is None:
        return replace(record, value=orjson.dumps(value))
    return replace(record, headers={**record.headers, header: value})


def difference(value: Any, other: Any) -> str:
    """Return what differs, in a few words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one!r}" for name, one in other.items() if value[name] != one)
    return repr(other)
