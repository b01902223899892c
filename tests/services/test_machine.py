"""The saga as a state machine: hypothesis generates everything that can happen to it, in any order.

The four services and their databases are real. Relay, broker and consumer loops are a model that may do whatever the
real ones may do. After every step the books must satisfy the permanent invariants. At the end all faults are removed,
every record is delivered, and the books must satisfy the invariants at rest. The referee must agree.
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
from labservices.order.deadline import call_off_late_orders
from tests.services.books import Bookkeeper
from tests.services.broker import Broker
from tests.services.faults import Faults, heal
from tests.services.luck import LONG, SEED, tries
from tests.services.oracle import Violated, audit
from tests.services.referee import ask_the_referee
from tests.services.world import World

MOST_ORDERS, MOST_CALLED_OFF = 6, 3
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
any_of = st.integers(0, 9999)
"""An index, modulo the number of items at that moment."""
some = st.lists(any_of, min_size=1, max_size=12)
services = st.sampled_from(["order", "inventory", "payment", "shipping"])
deaths = st.integers(1, 12)
"""The statement before which a process dies."""


class Saga(RuleBasedStateMachine):
    """The state machine: four services, some orders, and the events of their life."""

    def __init__(self, world: World, make_broker: Callable[[World, Faults], Broker] = Broker) -> None:
        super().__init__()
        world.reset()
        self.world = world
        self.faults = Faults(world)
        self.broker = make_broker(world, self.faults)
        self.keeper = Bookkeeper(world, self.faults, self.broker)
        self.orders: list[UUID] = []
        self.luck = Random(0)
        self.restocks = self.called_off = 0
        self.sure: set[UUID] = set()  # orders that must complete, because nothing prevents it
        note(f"SAGA_LAB_SEED={SEED}")

    # --- customers

    @initialize(wanted=st.lists(orders, min_size=1, max_size=3), luck=any_of)
    def open_the_shop(self, wanted: list[tuple[str, str, dict[str, int]]], luck: int) -> None:
        self.luck = Random(luck)
        for one in wanted:
            self._place(*one)

    @precondition(lambda self: len(self.orders) < MOST_ORDERS)
    @rule(wanted=orders)
    def order(self, wanted: tuple[str, str, dict[str, int]]) -> None:
        self._place(*wanted)

    @precondition(lambda self: self.called_off < MOST_CALLED_OFF)
    @rule(which=any_of)
    def cancel(self, which: int) -> None:
        order_id, before = self._call_off(which)
        answer = self.world.order.http.post(f"/orders/{order_id}/cancel")
        if answer.status_code != (409 if before == "COMPLETED" else 202):
            raise Violated("a_cancel_is_taken_before_the_pivot_only", [f"{order_id} was {before}: {answer.text}"])

    @precondition(lambda self: self.called_off < MOST_CALLED_OFF)
    @rule(which=any_of)
    def be_late(self, which: int) -> None:
        order_id, _ = self._call_off(which)
        with self.world.order.runtime.database.engine.begin() as connection:
            statement = text("UPDATE orders SET created_at = now() - make_interval(secs => :s) WHERE order_id = :id")
            connection.execute(statement, {"s": DEADLINE + 1, "id": order_id})
        patient = self.world.order.runtime.settings.model_copy(update={"order_deadline_seconds": DEADLINE})
        call_off_late_orders(self.world.order.runtime.database, patient)

    @precondition(lambda self: self.restocks < MOST_ORDERS)
    @rule()
    def new_goods_and_money(self) -> None:
        self.restocks += 1
        self.world.inventory.http.post("/inventory/products/rare/restock", json={"quantity": 1}).raise_for_status()
        self.world.payment.http.post("/payments/accounts/pip/deposit", json={"amount_cents": 900}).raise_for_status()

    # --- records

    @precondition(lambda self: self.broker.waiting())
    @rule(choices=some)
    def deliver(self, choices: list[int]) -> None:
        for choice in choices:
            if waiting := self.broker.waiting():
                self.broker.deliver(waiting[choice % len(waiting)])

    @precondition(lambda self: self.broker.waiting())
    @rule(readers=st.sets(services, min_size=1))
    def deliver_all_to(self, readers: set[str]) -> None:
        while waiting := [lane for lane in self.broker.waiting() if lane[0] in readers]:
            self.broker.deliver(waiting[0])

    @rule(choices=some)
    def deliver_again(self, choices: list[int]) -> None:
        for choice in choices:
            self.broker.deliver_again(choice)

    @rule(reader=services, which=any_of)
    def rewind(self, reader: str, which: int) -> None:
        topics = self.world.parties[reader].service.topics
        self.broker.rewind(reader, topics[which % len(topics)])

    @rule(which=any_of)
    def write_again(self, which: int) -> None:
        self.broker.write_again(which)

    @rule(which=any_of)
    def write_under_new_id(self, which: int) -> None:
        self.broker.write_under_new_id(which)

    # --- crashes and poison

    @precondition(lambda self: self.broker.waiting())
    @rule(which=any_of, at=deaths)
    def die_while_handling(self, which: int, at: int) -> None:
        waiting = self.broker.waiting()
        self.broker.deliver(waiting[which % len(waiting)], dies_at=at)

    @precondition(lambda self: self.broker.waiting())
    @rule(which=any_of)
    def poison(self, which: int) -> None:
        waiting = self.broker.waiting()
        lane = waiting[which % len(waiting)]
        self.faults.poisoned.add((lane[0], self.broker.next_order(lane)))
        self.broker.deliver(lane)

    @precondition(lambda self: self.faults.poisoned)
    @rule()
    def find_an_antidote(self) -> None:
        self.faults.poisoned.clear()

    @precondition(lambda self: self.keeper.books().parked)
    @rule(times=st.sampled_from([1, 2, MAX_ATTEMPTS + 1]))
    def try_parked(self, times: int) -> None:
        for reader in self.world.parties:
            for _ in range(times):
                self.broker.try_parked(reader)

    @precondition(lambda self: self.keeper.books().parked)
    @rule(at=deaths)
    def die_while_trying_parked(self, at: int) -> None:
        for reader in self.world.parties:
            self.broker.try_parked(reader, dies_at=at)

    @precondition(lambda self: self.keeper.books().parked)
    @rule()
    def replay_dead_letters(self) -> None:
        for party in self.world.parties.values():
            heal(party)

    # --- invariants

    @invariant()
    def nothing_is_violated(self) -> None:
        audit(self.keeper.books())

    def teardown(self) -> None:
        try:
            if sys.exception() is None:  # otherwise a violation is already known
                self._come_to_rest()
        finally:
            self.faults.close()

    def _come_to_rest(self) -> None:
        for _ in self.broker.settle(self.luck):
            self.nothing_is_violated()
        audit(self.keeper.books(), at_rest=True)
        if blamed := [verdict for verdict in ask_the_referee(self.world, self.broker.records) if not verdict.holds]:
            raise Violated("the_referee_agrees", blamed)
        if lost := [order for order in self.sure if self.world.status(order) != "COMPLETED"]:
            raise Violated("what_can_be_had_is_delivered", lost)

    def _place(self, customer: str, destination: str, goods: dict[str, int]) -> None:
        self.orders.append(self.world.place(customer, destination, **goods))
        if (customer, destination, goods) == ORDERS[0]:
            self.sure.add(self.orders[-1])

    def _call_off(self, which: int) -> tuple[UUID, str]:
        """Choose an order, count it as possibly cancelled, and return it with its status."""
        order_id = self.orders[which % len(self.orders)]
        status = self.world.status(order_id)
        self.called_off += status != "COMPLETED"
        self.sure -= {order_id} if status != "COMPLETED" else set()
        return order_id, status


def play(make: Callable[[], Saga], luck: int, how: settings) -> None:
    """Let hypothesis run the machine."""
    run_state_machine_as_test(seed(luck)(make), settings=how)  # type: ignore[arg-type]  # any maker of machines will do


@pytest.mark.timeout(600 * LONG)
def test_whatever_happens_the_books_are_right(world: World) -> None:
    """No interleaving, duplicate, loss, crash or poisoned event makes the services violate an invariant."""
    play(lambda: Saga(world), SEED, tries(20))
