"""The referee on a real lab: it reports no violation where there is none, and each invariant can be violated."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import psycopg
import pytest

from labstack.consistency.evidence import Evidence, collect
from labstack.consistency.invariants import ALWAYS, AT_REST, judge
from tests.stack.labs import Grounds


@pytest.fixture(scope="module")
def seen(_shared: Callable[[], Grounds]) -> Evidence:
    """Return the evidence of a lab at rest, after one order of each outcome."""
    lab = _shared().lab
    lab.reset()
    lab.demo()
    assert all(verdict.holds for verdict in lab.check(wait_for_rest=20))
    return collect(lab.endpoints)


def change(service: str, query: str, **values: object) -> Callable[[Evidence], None]:
    """Return a tampering that changes the first row of a query."""
    return lambda seen: seen.rows(service, query)[0].update(values)


def lose_a_record(seen: Evidence) -> None:
    """Remove the record of an outbox row, as if it had never reached Kafka."""
    del seen.records[seen.outbox["payment"][0]["id"]]


def lose_an_inbox_row(seen: Evidence) -> None:
    """Remove an inbox row, as if inventory had never handled the event."""
    created = next(row for row in seen.outbox["order"] if row["type"] == "OrderCreated")
    del seen.inbox["inventory"][created["id"]]


def say_it_twice(seen: Evidence) -> None:
    """Duplicate an outbox row, as if a service had appended the same event of an order twice."""
    seen.outbox["payment"].append({**seen.outbox["payment"][0], "id": "again"})


TAMPERINGS: dict[str, Callable[[Evidence], None]] = {
    "stock-is-within-bounds": change("inventory", "products", reserved=10**9),
    "stock-adds-up": change("inventory", "products", on_hand=7),
    "refunds-are-within-captures": change("payment", "money", refunded=10**9),
    "balances-add-up": change("payment", "accounts", balance_cents=1),
    "no-balance-is-below-zero": change("payment", "accounts", balance_cents=-1),
    "orders-are-terminal": change("order", "orders", status="PAID"),
    "money-matches-orders": change("payment", "money", captured=1),
    "nothing-is-held-for-cancelled-orders": change("inventory", "held", held=1),
    "outboxes-are-in-kafka": lose_a_record,
    "inboxes-hold-each-event-once": lose_an_inbox_row,
    "each-effect-is-taken-once": say_it_twice,
}


def test_every_invariant_has_a_tampering() -> None:
    """Each invariant has a test that violates it."""
    assert set(TAMPERINGS) == {judge.__name__.replace("_", "-") for judge in (*ALWAYS, *AT_REST)}


@pytest.mark.parametrize("invariant", TAMPERINGS)
def test_each_invariant_can_be_violated(seen: Evidence, invariant: str) -> None:
    """Evidence that violates an invariant makes it fail and name an offender."""
    tampered = copy.deepcopy(seen)
    TAMPERINGS[invariant](tampered)
    verdict = next(v for v in judge(tampered, at_rest=True) if v.name == invariant)
    assert verdict.holds is False
    assert verdict.offenders


def test_what_a_dead_letter_holds_is_named_and_not_blamed(seen: Evidence) -> None:
    """An order behind a dead letter may have any status, and the verdict names the dead letter."""
    held = copy.deepcopy(seen)
    order = held.rows("order", "orders")[0]
    created = next(row for row in held.outbox["order"] if row["order_id"] == order["order_id"])
    order["status"] = "PAID"
    del held.inbox["inventory"][created["id"]]
    dead = {"parking_id": 3, "state": "dead", "order_id": order["order_id"], "type": "", "event_id": created["id"]}
    held.parked["inventory"].append(dead)
    verdicts = {v.name: v for v in judge(held, at_rest=True)}
    assert all(v.holds for v in verdicts.values())
    assert verdicts["orders-are-terminal"].figures["held"] == 1
    assert verdicts["orders-are-terminal"].notes == [f"{order['order_id']} is held by inventory-3"]
    assert not held.is_retrying
    held.parked["inventory"].append({**dead, "parking_id": 4, "state": "retrying", "order_id": "another"})
    assert held.is_retrying


def test_an_order_that_was_never_made_is_not_excused_by_its_dead_letters(seen: Evidence) -> None:
    """Goods and money held for an order that the order service does not have are reported, despite its dead letter."""
    haunted = copy.deepcopy(seen)
    haunted.rows("payment", "money").append({"order_id": "ghost", "captured": 590, "refunded": 0})
    haunted.rows("inventory", "held").append({"order_id": "ghost", "held": 1})
    dead = {"parking_id": 4, "state": "dead", "order_id": "ghost", "type": "", "event_id": "of the ghost"}
    haunted.parked["order"].append(dead)
    offenders = {v.name: v.offenders for v in judge(haunted, at_rest=True) if v.holds is False}
    assert offenders == {"money-matches-orders": ["ghost"], "nothing-is-held-for-cancelled-orders": ["ghost"]}


def test_invariants_of_rest_stay_open_while_the_lab_moves(seen: Evidence) -> None:
    """While orders are in flight, only the invariants that must always hold are checked."""
    verdicts = {v.name: v.holds for v in judge(seen, at_rest=False)}
    assert [verdicts[j.__name__.replace("_", "-")] for j in AT_REST] == [None] * len(AT_REST)
    assert all(verdicts[j.__name__.replace("_", "-")] for j in ALWAYS)


def test_the_command_says_no(shared: Grounds) -> None:
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
