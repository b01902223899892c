"""The referee on a real lab: it reports no violation where there is none, and each invariant can be violated."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import psycopg
import pytest

from labstack.consistency.evidence import Evidence, collect
from labstack.consistency.invariants import ALWAYS, AT_REST, check_invariants
from tests.stack.labs import LabHarness


@pytest.fixture(scope="module")
def evidence(_shared: Callable[[], LabHarness]) -> Evidence:
    """Return the evidence of a lab at rest, after one order of each outcome."""
    lab = _shared().lab
    lab.reset()
    lab.demo()
    assert all(verdict.holds for verdict in lab.check(wait_for_rest=20))
    return collect(lab.endpoints)


def tamper(service: str, query: str, **values: object) -> Callable[[Evidence], None]:
    """Return a tampering that changes the first row of a query."""
    return lambda evidence: evidence.rows(service, query)[0].update(values)


def remove_record(evidence: Evidence) -> None:
    """Remove the record of an outbox row, as if it had never reached Kafka."""
    del evidence.records[evidence.outbox["payment"][0]["id"]]


def remove_inbox_row(evidence: Evidence) -> None:
    """Remove an inbox row, as if inventory had never handled the event."""
    created = next(row for row in evidence.outbox["order"] if row["type"] == "OrderCreated")
    del evidence.inbox["inventory"][created["id"]]


def duplicate_event(evidence: Evidence) -> None:
    """Duplicate an outbox row, as if a service had appended the same event of an order twice."""
    evidence.outbox["payment"].append({**evidence.outbox["payment"][0], "id": "again"})


TAMPERINGS: dict[str, Callable[[Evidence], None]] = {
    "stock-is-within-bounds": tamper("inventory", "products", reserved=10**9),
    "stock-adds-up": tamper("inventory", "products", on_hand=7),
    "refunds-are-within-captures": tamper("payment", "money", refunded=10**9),
    "balances-add-up": tamper("payment", "accounts", balance_cents=1),
    "no-balance-is-below-zero": tamper("payment", "accounts", balance_cents=-1),
    "orders-are-terminal": tamper("order", "orders", status="PAID"),
    "money-matches-orders": tamper("payment", "money", captured=1),
    "nothing-is-held-for-cancelled-orders": tamper("inventory", "held", held=1),
    "outboxes-are-in-kafka": remove_record,
    "inboxes-hold-each-event-once": remove_inbox_row,
    "each-effect-is-taken-once": duplicate_event,
}


def test_every_invariant_is_tested() -> None:
    """Each invariant has a test that violates it."""
    assert set(TAMPERINGS) == {check_invariants.__name__.replace("_", "-") for check_invariants in (*ALWAYS, *AT_REST)}


@pytest.mark.parametrize("invariant", TAMPERINGS)
def test_each_invariant_can_be_violated(evidence: Evidence, invariant: str) -> None:
    """Evidence that violates an invariant makes it fail and name an offender."""
    tampered = copy.deepcopy(evidence)
    TAMPERINGS[invariant](tampered)
    verdict = next(v for v in check_invariants(tampered, at_rest=True) if v.name == invariant)
    assert verdict.holds is False
    assert verdict.offenders


def test_order_behind_a_dead_letter_is_not_a_violation(evidence: Evidence) -> None:
    """An order behind a dead letter may have any status, and the verdict names the dead letter."""
    held = copy.deepcopy(evidence)
    order = held.rows("order", "orders")[0]
    created = next(row for row in held.outbox["order"] if row["order_id"] == order["order_id"])
    order["status"] = "PAID"
    del held.inbox["inventory"][created["id"]]
    dead = {"parking_id": 3, "state": "dead", "order_id": order["order_id"], "type": "", "event_id": created["id"]}
    held.parked["inventory"].append(dead)
    verdicts = {v.name: v for v in check_invariants(held, at_rest=True)}
    assert all(v.holds for v in verdicts.values())
    assert verdicts["orders-are-terminal"].figures["held"] == 1
    assert verdicts["orders-are-terminal"].notes == [f"{order['order_id']} is held by inventory-3"]
    assert not held.is_retrying
    held.parked["inventory"].append({**dead, "parking_id": 4, "state": "retrying", "order_id": "another"})
    assert held.is_retrying


def test_dead_letter_does_not_excuse_an_unknown_order(evidence: Evidence) -> None:
    """Goods and money held for an order that the order service does not have are reported, despite its dead letter."""
    tampered = copy.deepcopy(evidence)
    tampered.rows("payment", "money").append({"order_id": "ghost", "captured": 590, "refunded": 0})
    tampered.rows("inventory", "held").append({"order_id": "ghost", "held": 1})
    dead = {"parking_id": 4, "state": "dead", "order_id": "ghost", "type": "", "event_id": "of the ghost"}
    tampered.parked["order"].append(dead)
    offenders = {v.name: v.offenders for v in check_invariants(tampered, at_rest=True) if v.holds is False}
    assert offenders == {"money-matches-orders": ["ghost"], "nothing-is-held-for-cancelled-orders": ["ghost"]}


def test_final_invariants_are_not_checked_while_orders_run(evidence: Evidence) -> None:
    """While orders are in flight, only the invariants that must always hold are checked."""
    verdicts = {v.name: v.holds for v in check_invariants(evidence, at_rest=False)}
    assert [verdicts[j.__name__.replace("_", "-")] for j in AT_REST] == [None] * len(AT_REST)
    assert all(verdicts[j.__name__.replace("_", "-")] for j in ALWAYS)


def test_check_command_fails_on_a_violation(shared: LabHarness) -> None:
    """`lab check --json` prints every invariant, and exits with status 1 if a balance increases without reason."""
    shared.lab.reset()
    good = shared.run("check", "--json")
    assert good.returncode == 0
    assert {v["name"] for v in json.loads(good.stdout)} == set(TAMPERINGS)
    with psycopg.connect(shared.lab.endpoints.databases["payment"]) as connection:
        connection.execute("UPDATE accounts SET balance_cents = balance_cents + 1 WHERE customer_id = 'ada'")
    bad = shared.run("check", "--json")
    assert bad.returncode == 1
    violated = [v for v in json.loads(bad.stdout) if v["holds"] is False]
    assert [(v["name"], v["offenders"]) for v in violated] == [("balances-add-up", ["ada"])]
    shared.lab.reset()
