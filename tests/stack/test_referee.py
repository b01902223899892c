"""The referee on a real lab: it reports no violation where there is none, and finds every corruption."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from labservices.contract import SERVICES, TABLES
from labstack.clients import databases
from labstack.consistency.evidence import TIMES, Evidence, connect, read_tables
from labstack.consistency.invariants import ALWAYS, AT_REST, InvariantVerdict, check_invariants
from labstack.consistency.referee import is_at_rest
from tests.stack.all_outcomes import Case, make_case
from tests.stack.corruptions import CORRUPTIONS, Corruption
from tests.stack.labs import LabHarness
from tests.stack.one_order import place_order, wait_for_outcome

NAMES = [invariant.__name__.replace("_", "-") for invariant in (*ALWAYS, *AT_REST)]


@pytest.fixture(scope="module")
def case(_shared: Callable[[], LabHarness]) -> Case:
    """Return a lab at rest with orders of all outcomes, an idempotency key, and a dead letter."""
    return make_case(_shared().lab)


def violations(evidence: Evidence) -> dict[str, InvariantVerdict]:
    """Return the violated invariants of a lab at rest."""
    return {v.name: v for v in check_invariants(evidence, at_rest=True) if v.holds is False}


@contextmanager
def corrupted(case: Case, corruption: Corruption) -> Iterator[Evidence]:
    """Yield the evidence as the transaction of a corruption sees it; the transaction is rolled back."""
    with connect(case.lab.endpoints.databases[corruption.service]) as connection:
        for table in corruption.keys:
            drop_constraints(connection, table)
        changed = connection.execute(corruption.statement.encode(), case.orders)
        assert changed.rowcount > 0, "the corruption changes nothing"
        tables = {**case.evidence.tables, corruption.service: read_tables(connection, corruption.service)}
        yield replace(case.evidence, tables=tables)
        connection.rollback()


def drop_constraints(connection: psycopg.Connection[dict[str, object]], table: str) -> None:
    """Drop the checks and unique keys of a table, in the caller's transaction."""
    query = "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype IN ('c', 'p', 'u')"
    for row in connection.execute(query, [table]).fetchall():
        drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
        connection.execute(drop.format(sql.Identifier(table), sql.Identifier(str(row["conname"]))))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupted_rows_violate_an_invariant(case: Case, name: str) -> None:
    """The referee names the invariant that a corruption of a database violates, with an offender and the reason."""
    corruption = CORRUPTIONS[name]
    with corrupted(case, corruption) as evidence:
        found = violations(evidence)
    assert corruption.violates in found
    assert found[corruption.violates].offenders
    assert read_back(case, corruption.service) == case.evidence.tables[corruption.service]


def read_back(case: Case, service: str) -> dict[str, list[dict[str, object]]]:
    """Return the rows of a service's tables now."""
    with connect(case.lab.endpoints.databases[service]) as connection:
        return read_tables(connection, service)


def test_each_invariant_has_two_corruptions() -> None:
    """Each invariant is violated by at least two corruptions."""
    counts = Counter(corruption.violates for corruption in CORRUPTIONS.values())
    assert {name: counts[name] for name in NAMES if counts[name] < 2} == {}
    assert set(counts) == set(NAMES)


@pytest.mark.parametrize("service", SERVICES)
def test_evidence_is_complete(case: Case, service: str) -> None:
    """The evidence has every row of every table, and every column except times."""
    with databases.connect(case.lab.endpoints.databases[service]) as connection:
        for table, columns in TABLES[service].items():
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
            (count,) = connection.execute(query).fetchone() or (0,)
            rows = case.evidence.rows(service, table)
            assert len(rows) == count, table
            wanted = {name for name in columns if name not in TIMES and (name != "created_at" or table == "outbox")}
            assert all(set(row) == wanted for row in rows), table


def test_dead_letter_holds_its_order(case: Case) -> None:
    """An order behind a dead letter may have any status, and the verdict names the dead letter."""
    held = copy.deepcopy(case.evidence)
    order = held.rows("order", "orders")[0]
    created = next(row for row in held.rows("order", "outbox") if row["aggregateid"] == order["order_id"])
    record = next(record for record in held.records if record.headers["ce_id"] == created["id"])
    order["status"] = "PAID"
    inbox = held.rows("inventory", "inbox")
    inbox[:] = [row for row in inbox if row["event_id"] != created["id"]]
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "key": record.key}
    failure = {"attempts": 5, "permanent": False, "error": "RuntimeError: poison"}
    dead = {"parking_id": 33, "state": "dead", **place, "value": record.value, "headers": record.headers, **failure}
    story = {"dlq.id": "inventory-33", "dlq.attempts": "5", "dlq.error": "RuntimeError: poison"}
    held.rows("inventory", "parked_records").append(dead)
    held.letters.append(replace(record, headers={**record.headers, **story}))
    verdicts = {v.name: v for v in check_invariants(held, at_rest=True)}
    offenders = {name: v.offenders for name, v in verdicts.items() if not v.holds}
    assert offenders == {}
    assert verdicts["orders-are-terminal"].figures["held"] == 1
    assert f"{order['order_id']} is held by inventory-33" in verdicts["orders-are-terminal"].notes
    assert not held.is_retrying
    held.rows("inventory", "parked_records").append({**dead, "parking_id": 34, "state": "retrying", "key": "another"})
    assert held.is_retrying


def test_dead_letter_does_not_excuse_an_unknown_order(case: Case) -> None:
    """Goods and money held for an order that the order service does not have are reported, despite its dead letter."""
    ghost = copy.deepcopy(case.evidence)
    (order,) = [row for row in ghost.rows("order", "orders") if row["order_id"] == case.orders["completed"]]
    for table in ("orders", "order_history", "order_answers", "idempotency_keys"):
        rows = ghost.rows("order", table)
        rows[:] = [row for row in rows if row["order_id"] != order["order_id"]]
    ghost.rows("order", "parked_records").append(
        {**ghost.rows("inventory", "parked_records")[0], "key": order["order_id"], "state": "dead"}
    )
    offenders = {name: verdict.offenders for name, verdict in violations(ghost).items()}
    assert offenders.pop("inboxes-hold-each-event-once") == [order["order_id"]]  # that letter is invented, too
    expected = ("money-matches-orders", "nothing-is-held-for-cancelled-orders")
    assert offenders == {name: [order["order_id"]] for name in expected}


@pytest.mark.parametrize("place", ["in one partition", "in all partitions"])
def test_lag_is_not_rest(case: Case, place: str) -> None:
    """A lab in which a consumer is one record behind, in any partition, is not at rest."""
    now = case.evidence
    assert is_at_rest(now, now)
    behind = {key: end - 1 for key, end in now.ends.items() if key[0] == "order.events" and end}
    if place == "in one partition":
        behind = dict([next(iter(behind.items()))])
    late = replace(now, committed={**now.committed, "shipping": {**now.committed["shipping"], **behind}})
    assert late.lag["shipping"] == len(behind)
    assert not is_at_rest(late, late)


def test_changes_and_unread_rows_are_not_rest(case: Case) -> None:
    """A lab whose rows changed between two looks, or whose relay has rows left to read, is not at rest."""
    now = case.evidence
    before = copy.deepcopy(now)
    before.rows("payment", "outbox").pop()
    assert not is_at_rest(before, now)
    unread = replace(now, records=now.records[1:], relay_reads=dict.fromkeys(SERVICES, False))
    assert not is_at_rest(unread, unread)
    assert is_at_rest(replace(now, relay_reads=dict.fromkeys(SERVICES, False)), now)


def test_final_invariants_are_not_checked_while_orders_run(case: Case) -> None:
    """While orders are in flight, only the invariants that must always hold are checked."""
    verdicts = {v.name: v.holds for v in check_invariants(case.evidence, at_rest=False)}
    assert [verdicts[j.__name__.replace("_", "-")] for j in AT_REST] == [None] * len(AT_REST)
    assert all(verdicts[j.__name__.replace("_", "-")] for j in ALWAYS)


def test_check_command_fails_on_a_violation(shared: LabHarness) -> None:
    """`lab check --json` prints every invariant, and exits with status 1 if a balance increases without reason."""
    shared.lab.reset()
    good = shared.run("check", "--json")
    assert good.returncode == 0
    assert [v["name"] for v in json.loads(good.stdout)] == NAMES
    with databases.connect(shared.lab.endpoints.databases["payment"]) as connection:
        connection.execute("UPDATE accounts SET balance_cents = balance_cents + 1 WHERE customer_id = 'ada'")
    bad = shared.run("check", "--json")
    assert bad.returncode == 1
    violated = [v for v in json.loads(bad.stdout) if v["holds"] is False]
    assert [(v["name"], v["offenders"]) for v in violated] == [("balances-add-up", ["ada"])]
    shared.lab.reset()


def test_lost_shipment_is_explained(shared: LabHarness) -> None:
    """`lab check` names the order whose shipment was deleted, and what its services disagree about."""
    lab = shared.lab
    lab.reset()
    order = place_order(lab)
    assert wait_for_outcome(lab, order) == ("COMPLETED", None)
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []
    with databases.connect(lab.endpoints.databases["shipping"]) as connection:
        connection.execute("DELETE FROM shipments WHERE order_id = %s", [order])
    told = shared.run("check")
    assert told.returncode == 1
    assert "shipments without a row" in re.sub(r"\s+", " ", told.stdout)
    lab.reset()
