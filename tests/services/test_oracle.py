"""The oracle can fail: each of its invariants can be violated."""

import copy
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from tests.services.books import Snapshot, SnapshotReader
from tests.services.broker import Broker
from tests.services.faults import Faults
from tests.services.oracle import ALWAYS, AT_REST, audit
from tests.services.world import World, changed


@pytest.fixture
def snapshot(world: World) -> Iterator[Snapshot]:
    """Return a snapshot after one order completed, and one was cancelled because its destination has no carrier."""
    faults = Faults(world)
    broker = Broker(world, faults)
    world.place()
    world.place(destination="utopia")
    for _ in broker.settle(Random(1)):
        pass
    yield copy.deepcopy(SnapshotReader(world, faults, broker).snapshot())
    faults.close()


def change(service: str, table: str, where: dict[str, Any] | None = None, **new: Any) -> Callable[[Snapshot], None]:
    """Return a tampering that changes the first matching row."""

    def tamper(snapshot: Snapshot) -> None:
        fits = (row for row in snapshot.rows(service, table) if (where or {}).items() <= row.items())
        next(fits).update(new)

    return tamper


def repeat(service: str, table: str) -> Callable[[Snapshot], None]:
    """Return a tampering that duplicates the first row."""
    return lambda snapshot: snapshot.rows(service, table).append(dict(snapshot.rows(service, table)[0]))


def forget_an_arrival(snapshot: Snapshot) -> None:
    """Move the first arrival of an order to the end."""
    events = next(events for (service, _), events in snapshot.arrived.items() if service == "order")
    events.append(events.pop(0))


def move_a_record(snapshot: Snapshot) -> None:
    """Move a record to another partition than the others of its order."""
    snapshot.records[0] = changed(snapshot.records[0], partition=snapshot.records[0].partition + 1)


CANCELLED = {"status": "CANCELLED"}
TAMPERINGS: dict[str, Callable[[Snapshot], None]] = {
    "stock_is_within_bounds": change("inventory", "products", reserved=10**9),
    "stock_adds_up": change("inventory", "products", on_hand=7),
    "refunds_are_within_captures": change("payment", "ledger_entries", {"effect": "refund"}, amount_cents=10**9),
    "balances_add_up": change("payment", "accounts", balance_cents=1),
    "no_balance_is_below_zero": change("payment", "accounts", balance_cents=-1),
    "each_effect_is_applied_once": repeat("shipping", "carrier_bookings"),
    "each_service_has_one_row_per_order": repeat("payment", "payments"),
    "status_effects_and_events_agree": change("payment", "payments", {"status": "REFUNDED"}, status="COMPLETED"),
    "amounts_match_the_order": change("payment", "ledger_entries", {"effect": "capture"}, amount_cents=1),
    "histories_follow_the_contract": change("order", "order_history", {"status": "PAID"}, status="PENDING"),
    "terminal_orders_are_settled": change("payment", "ledger_entries", {"effect": "refund"}, effect="deposit"),
    "events_are_handled_in_order_of_arrival": forget_an_arrival,
    "records_of_an_order_share_a_partition": move_a_record,
    "orders_are_terminal": change("order", "orders", CANCELLED, status="CANCELLING"),
    "money_matches_orders": change("order", "orders", CANCELLED, status="COMPLETED"),
    "goods_are_shipped_or_released": change("shipping", "shipments", {"status": "DISPATCHED"}, status="SCHEDULED"),
    "each_event_is_in_each_inbox_once": repeat("payment", "inbox"),
    "failure_reason_is_the_first_cause": change("order", "orders", CANCELLED, failure_reason="order_cancelled"),
}


def test_every_invariant_has_a_tampering() -> None:
    """Every invariant has a tampering that violates it."""
    assert set(TAMPERINGS) == {invariant.__name__ for invariant in (*ALWAYS, *AT_REST)}


def test_each_invariant_can_be_violated(snapshot: Snapshot) -> None:
    """An untouched snapshot violates nothing, and each tampering violates its invariant."""
    audit(snapshot, at_rest=True)
    for invariant in (*ALWAYS, *AT_REST):
        tampered = copy.deepcopy(snapshot)
        TAMPERINGS[invariant.__name__](tampered)
        assert list(invariant(tampered)), invariant.__name__
