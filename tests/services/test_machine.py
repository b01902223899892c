"""The saga as a state machine: hypothesis generates everything that can happen to it, in any order.

The four services and their databases are real. Relay, broker and consumer loops are a model that may do whatever the
real ones may do. After every step a snapshot must satisfy the permanent invariants. At the end all faults are removed,
every record is delivered, and a snapshot must satisfy the invariants at rest. The referee must agree.
"""

import sys
from collections.abc import Callable
from random import Random
from uuid import UUID

import pytest
from hypothesis import note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from labservices.messaging.parking import MAX_ATTEMPTS
from labservices.order.deadline import time_out_late_orders
from tests.services.books import SnapshotReader
from tests.services.broker import Broker
from tests.services.faults import Faults, replay_all_dead_letters
from tests.services.luck import LONG, SEED, example_settings
from tests.services.oracle import Violated, audit
from tests.services.referee import run_referee
from tests.services.world import World

MAX_ORDERS, MAX_CANCELS = 6, 3
DEADLINE = 3600.0
"""Seconds; longer than any example takes, so that an order is late only if a step makes it late."""

ORDERS: list[tuple[str, str, dict[str, int]]] = [
    ("ada", "berlin", {"mug": 1}),
    ("ada", "berlin", {"mug": 2, "pot": 1}),
    ("ada", "berlin", {"pot": 6}),  # ten are in stock
    ("ada", "berlin", {"rare": 1}),  # one is in stock
    ("ada", "berlin", {"mug": 1, "gone": 1}),
    ("ada", "utopia", {"mug": 1}),
    ("pip", "berlin", {"mug": 1}),
    ("nobody", "berlin", {"mug": 1}),
]

orders = st.sampled_from(ORDERS)
indexes = st.integers(0, 9999)
"""An index, modulo the number of items at that moment."""
index_lists = st.lists(indexes, min_size=1, max_size=12)
services = st.sampled_from(["order", "inventory", "payment", "shipping"])
crash_points = st.integers(1, 12)
"""The statement before which a process is killed."""


class Saga(RuleBasedStateMachine):
    """The state machine: four services, some orders, and the events of their life."""

    def __init__(self, world: World, make_broker: Callable[[World, Faults], Broker] = Broker) -> None:
        super().__init__()
        world.reset()
        self.world = world
        self.faults = Faults(world)
        self.broker = make_broker(world, self.faults)
        self.snapshot_reader = SnapshotReader(world, self.faults, self.broker)
        self.orders: list[UUID] = []
        self.rng = Random(0)
        self.restocks = self.cancels = 0
        self.must_complete: set[UUID] = set()  # orders that must complete, because nothing prevents it
        note(f"SAGA_LAB_SEED={SEED}")

    # --- customers

    @initialize(wanted=st.lists(orders, min_size=1, max_size=3), rng_seed=indexes)
    def place_first_orders(self, wanted: list[tuple[str, str, dict[str, int]]], rng_seed: int) -> None:
        self.rng = Random(rng_seed)
        for one in wanted:
            self._place(*one)

    @precondition(lambda self: len(self.orders) < MAX_ORDERS)
    @rule(wanted=orders)
    def order(self, wanted: tuple[str, str, dict[str, int]]) -> None:
        self._place(*wanted)

    @precondition(lambda self: self.cancels < MAX_CANCELS)
    @rule(which=indexes)
    def cancel(self, which: int) -> None:
        order_id, before = self._choose_order_to_cancel(which)
        answer = self.world.order.http.post(f"/orders/{order_id}/cancel")
        if answer.status_code != (409 if before == "COMPLETED" else 202):
            raise Violated("cancel_is_accepted_only_before_the_pivot", [f"{order_id} was {before}: {answer.text}"])

    @precondition(lambda self: self.cancels < MAX_CANCELS)
    @rule(which=indexes)
    def apply_deadline(self, which: int) -> None:
        order_id, _ = self._choose_order_to_cancel(which)
        with self.world.order.runtime.database.engine.begin() as connection:
            statement = text("UPDATE orders SET created_at = now() - make_interval(secs => :s) WHERE order_id = :id")
            connection.execute(statement, {"s": DEADLINE + 1, "id": order_id})
        settings_with_deadline = self.world.order.runtime.settings.model_copy(
            update={"order_deadline_seconds": DEADLINE}
        )
        time_out_late_orders(self.world.order.runtime.database, settings_with_deadline)

    @precondition(lambda self: self.restocks < MAX_ORDERS)
    @rule()
    def deposit_and_restock(self) -> None:
        self.restocks += 1
        self.world.inventory.http.post("/inventory/products/rare/restock", json={"quantity": 1}).raise_for_status()
        self.world.payment.http.post("/payments/accounts/pip/deposit", json={"amount_cents": 900}).raise_for_status()

    # --- records

    @precondition(lambda self: self.broker.waiting())
    @rule(choices=index_lists)
    def deliver(self, choices: list[int]) -> None:
        for choice in choices:
            if waiting := self.broker.waiting():
                self.broker.deliver(waiting[choice % len(waiting)])

    @precondition(lambda self: self.broker.waiting())
    @rule(readers=st.sets(services, min_size=1))
    def deliver_all_to(self, readers: set[str]) -> None:
        while waiting := [lane for lane in self.broker.waiting() if lane[0] in readers]:
            self.broker.deliver(waiting[0])

    @rule(choices=index_lists)
    def deliver_again(self, choices: list[int]) -> None:
        for choice in choices:
            self.broker.deliver_again(choice)

    @rule(reader=services, which=indexes)
    def rewind(self, reader: str, which: int) -> None:
        topics = self.world.harnesses[reader].service.topics
        self.broker.rewind(reader, topics[which % len(topics)])

    @rule(which=indexes)
    def write_again(self, which: int) -> None:
        self.broker.write_again(which)

    @rule(which=indexes)
    def write_under_new_id(self, which: int) -> None:
        self.broker.write_under_new_id(which)

    # --- crashes and poison

    @precondition(lambda self: self.broker.waiting())
    @rule(which=indexes, at=crash_points)
    def kill_while_handling(self, which: int, at: int) -> None:
        waiting = self.broker.waiting()
        self.broker.deliver(waiting[which % len(waiting)], crash_at=at)

    @precondition(lambda self: self.broker.waiting())
    @rule(which=indexes)
    def poison(self, which: int) -> None:
        waiting = self.broker.waiting()
        lane = waiting[which % len(waiting)]
        self.faults.poisoned.add((lane[0], self.broker.next_order(lane)))
        self.broker.deliver(lane)

    @precondition(lambda self: self.faults.poisoned)
    @rule()
    def clear_poison(self) -> None:
        self.faults.poisoned.clear()

    @precondition(lambda self: self.snapshot_reader.snapshot().parked)
    @rule(times=st.sampled_from([1, 2, MAX_ATTEMPTS + 1]))
    def try_parked(self, times: int) -> None:
        for reader in self.world.harnesses:
            for _ in range(times):
                self.broker.try_parked(reader)

    @precondition(lambda self: self.snapshot_reader.snapshot().parked)
    @rule(at=crash_points)
    def kill_while_retrying_parked(self, at: int) -> None:
        for reader in self.world.harnesses:
            self.broker.try_parked(reader, crash_at=at)

    @precondition(lambda self: self.snapshot_reader.snapshot().parked)
    @rule()
    def replay_dead_letters(self) -> None:
        for harness in self.world.harnesses.values():
            replay_all_dead_letters(harness)

    # --- invariants

    @invariant()
    def invariants_hold(self) -> None:
        audit(self.snapshot_reader.snapshot())

    def teardown(self) -> None:
        try:
            if sys.exception() is None:  # otherwise a violation is already known
                self._settle()
        finally:
            self.faults.close()

    def _settle(self) -> None:
        for _ in self.broker.settle(self.rng):
            self.invariants_hold()
        audit(self.snapshot_reader.snapshot(), at_rest=True)
        found = {v.name: v for v in run_referee(self.world, self.broker.records) if not v.holds}
        copies = found.pop("inboxes-hold-each-event-once", None)
        if found or set(copies.offenders if copies else ()) != self.broker.copied:
            raise Violated("the_referee_agrees", [*found.values(), copies, self.broker.copied])
        if incomplete := [order for order in self.must_complete if self.world.status(order) != "COMPLETED"]:
            raise Violated("orders_that_can_complete_do_complete", incomplete)

    def _place(self, customer: str, destination: str, goods: dict[str, int]) -> None:
        self.orders.append(self.world.place(customer, destination, **goods))
        if (customer, destination, goods) == ORDERS[0]:
            self.must_complete.add(self.orders[-1])

    def _choose_order_to_cancel(self, which: int) -> tuple[UUID, str]:
        """Choose an order, count it as possibly cancelled, and return it with its status."""
        order_id = self.orders[which % len(self.orders)]
        status = self.world.status(order_id)
        self.cancels += status != "COMPLETED"
        self.must_complete -= {order_id} if status != "COMPLETED" else set()
        return order_id, status


def run_machine(make: Callable[[], Saga], run_seed: int, options: settings) -> None:
    """Let hypothesis run the machine."""
    run_state_machine_as_test(seed(run_seed)(make), settings=options)  # type: ignore[arg-type]  # any factory will do


@pytest.mark.timeout(600 * LONG)
def test_no_sequence_of_events_violates_an_invariant(world: World) -> None:
    """No interleaving, duplicate, loss, crash or poisoned event makes the services violate an invariant."""
    run_machine(lambda: Saga(world), SEED, example_settings(20))
