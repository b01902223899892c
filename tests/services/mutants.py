"""Mutants: the services with one defect each, such as a developer may write or overlook."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, Table

from labservices.events import ErrorEvent, Event
from labservices.faults.switches import (
    NoInbox,
    UnguardedTransaction,
    drop_unique_keys,
    restore_unique_keys,
    without_guards,
)
from labservices.inventory import domain as inventory
from labservices.inventory import handlers as inventory_handlers
from labservices.messaging.inbox import Admission, Inbox
from labservices.messaging.outbox import Outbox
from labservices.order import domain as order
from labservices.order.domain import Status
from labservices.payment import domain as payment
from labservices.payment import handlers as payment_handlers
from labservices.record import Envelope
from labservices.service import Handler
from labservices.storage.database import Transaction
from tests.services.broker import PARTITIONS, Broker, Lane
from tests.services.world import World

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutant:
    """One defect.

    Attributes
    ----------
    violates
        The invariants of which one must be reported as violated.
    seed
        Introduces the defect into a world.
    broker
        Creates the broker that delivers the records.
    """

    violates: set[str]
    seed: Callable[[World, Patch], None] = lambda world, patch: None
    broker: Callable[..., Broker] = Broker


# --- the inbox


def inbox_off(world: World, patch: Patch) -> None:
    for name, harness in world.harnesses.items():
        patch.setattr(harness.runtime.handling, "_inbox", NoInbox(name))


class OwnInbox(Inbox):
    """Inserts an event's id in a separate transaction, before the event is handled."""

    def __init__(self, consumer: str, engine: Engine) -> None:
        super().__init__(consumer)
        self._engine = engine

    def admit(self, connection: Connection, envelope: Envelope, *, is_first_parked: bool = False) -> Admission:
        with self._engine.begin() as own:
            return super().admit(own, envelope, is_first_parked=is_first_parked)


def inbox_committed_first(world: World, patch: Patch) -> None:
    for name, harness in world.harnesses.items():
        patch.setattr(harness.runtime.handling, "_inbox", OwnInbox(name, harness.runtime.database.engine))


class ImpatientInbox(Inbox):
    """Lets events overtake the parked events before them."""

    def admit(self, connection: Connection, envelope: Envelope, *, is_first_parked: bool = False) -> Admission:
        return super().admit(connection, envelope, is_first_parked=True)


def overtaking(world: World, patch: Patch) -> None:
    for name, harness in world.harnesses.items():
        patch.setattr(harness.runtime.handling, "_inbox", ImpatientInbox(name))


# --- guards and the single transaction


def guards_removed(world: World, patch: Patch) -> None:
    for harness in world.harnesses.values():
        drop_unique_keys(harness.runtime.database.engine, harness.service)
        patch.setattr(harness.runtime.database, "_make_transaction", UnguardedTransaction)
        handling = harness.runtime.handling
        patch.setattr(handling, "_call", partial(without_guards, handling._call))


class HastyOutbox(Outbox):
    """Appends each event in a separate transaction, which commits even if the handler's transaction rolls back."""

    def __init__(self, service: str, table: Table, engine: Engine) -> None:
        super().__init__(service, table)
        self._engine = engine

    def add(self, connection: Connection, event: Event, cause: UUID | None) -> UUID:
        with self._engine.begin() as own:
            return super().add(own, event, cause)


def outbox_in_separate_transaction(world: World, patch: Patch) -> None:
    for name, harness in world.harnesses.items():
        database = harness.runtime.database
        outbox = HastyOutbox(name, harness.service.tables.tables["outbox"], database.engine)
        patch.setattr(database, "_outbox", outbox)


# --- compensations


def ignore_error_events(domain: Any, status: str) -> Callable[[World, Patch], None]:
    """Let a service ignore error events while its row has this status."""
    undo = domain.undo
    return lambda _, patch: patch.setattr(domain, "undo", lambda now: None if now == status else undo(now))


def refund_published_without_effect(world: World, patch: Patch) -> None:
    move = payment_handlers._move_money

    def move_but_no_refund(tx: Transaction, row: Any, effect: str, cents: int) -> None:
        if effect != "refund":
            move(tx, row, effect, cents)

    patch.setattr(payment_handlers, "_move_money", move_but_no_refund)


def release_published_without_effect(world: World, patch: Patch) -> None:
    move = inventory_handlers._move_stock

    def move_but_no_release(tx: Transaction, event: Event, effect: str, wanted: dict[str, int]) -> None:
        if effect != "release":
            move(tx, event, effect, wanted)

    patch.setattr(inventory_handlers, "_move_stock", move_but_no_release)


def no_tombstone(world: World, patch: Patch) -> None:
    """Let an error event about an order that a service does not know leave no tombstone."""
    for name, table in (("inventory", "reservations"), ("payment", "payments"), ("shipping", "shipments")):
        harness = world.harnesses[name]
        handlers = harness.service.handlers
        for kind in [kind for kind in handlers if issubclass(kind, ErrorEvent)]:
            known = harness.service.tables.tables[table]
            patch.setitem(handlers, kind, partial(_only_if_known, known, handlers[kind]))


def _only_if_known(table: Table, handler: Handler, tx: Transaction, event: Event) -> None:
    if tx.execute(table.select().where(table.c.order_id == event.order_id)).first():
        handler(tx, event)


# --- the order


def cancelled_at_once(world: World, patch: Patch) -> None:
    patch.setattr(order, "_all_undone", lambda known: True)


def unseen_success_ignored(world: World, patch: Patch) -> None:
    """Wait only for the undo of those successes that have arrived."""

    def all_is_undone(known: Any) -> bool:
        stopping = any(step.failure.type() in known for step in order.STEPS) or order.STEPS[-1].success.type() in known
        return stopping and all(step.undo.type() in known for step in order.STEPS if step.success.type() in known)

    patch.setattr(order, "_all_undone", all_is_undone)


def cancelled_after_the_pivot(world: World, patch: Patch) -> None:
    patch.setattr(order, "cancel", lambda status: status not in (Status.CANCELLING, Status.CANCELLED))


def success_does_not_wait(world: World, patch: Patch) -> None:
    """Advance the order to the furthest success that has arrived."""

    def progress(status: Status, known: Any) -> order.Change | None:
        for step in reversed(order.STEPS):
            if step.reaches is status:
                break
            if success := known.get(step.success.type()):
                return order.Change(step.reaches, event_id=success.event_id)
        return None

    patch.setattr(order, "_progress", progress)


# --- Kafka


class OffsetFirst(Broker):
    """Its consumers commit the offset of a record before they handle it."""

    def deliver(self, lane: Lane, *, crash_at: int | None = None) -> None:
        super().deliver(lane, crash_at=crash_at)
        if crash_at is not None:
            self._committed[lane] += 1


def round_robin(order: int, record: int) -> int:
    """Assign records to the partitions in turn, regardless of their order."""
    return record % PARTITIONS


LOST = {"orders_are_terminal", "goods_are_shipped_or_released", "each_event_is_in_each_inbox_once"}
TERMINAL = "orders_are_terminal"
AGREEMENT = "status_effects_and_events_agree"
SETTLED = "terminal_orders_are_settled"
MUTANTS: dict[str, Mutant] = {
    "inbox off": Mutant({"each_event_is_in_each_inbox_once"}, inbox_off),
    "inbox committed first": Mutant(LOST, inbox_committed_first),
    "a parked record is overtaken": Mutant({"events_are_handled_in_order_of_arrival"}, overtaking),
    "guards removed": Mutant({"each_effect_is_applied_once", "each_service_has_one_row_per_order"}, guards_removed),
    "outbox apart from the transaction": Mutant({AGREEMENT}, outbox_in_separate_transaction),
    "refund forgotten": Mutant({TERMINAL}, ignore_error_events(payment, "COMPLETED")),
    "refund only said": Mutant({AGREEMENT}, refund_published_without_effect),
    "release forgotten": Mutant({TERMINAL}, ignore_error_events(inventory, "RESERVED")),
    "release only said": Mutant({AGREEMENT}, release_published_without_effect),
    "tombstone forgotten": Mutant({TERMINAL}, no_tombstone),
    "cancelled at once": Mutant({SETTLED}, cancelled_at_once),
    "an unseen success forgotten": Mutant({SETTLED}, unseen_success_ignored),
    "cancelled after the pivot": Mutant({"cancel_is_accepted_only_before_the_pivot"}, cancelled_after_the_pivot),
    "a success does not wait": Mutant({"histories_follow_the_contract", SETTLED}, success_does_not_wait),
    "offset committed first": Mutant(LOST, broker=OffsetFirst),
    "partitioner changed": Mutant(
        {"records_of_an_order_share_a_partition"}, broker=partial(Broker, partition=round_robin)
    ),
}


@contextmanager
def seeded(mutant: Mutant, world: World) -> Iterator[None]:
    """Run a block with one defect in place."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            mutant.seed(world, patch)
            yield
    finally:
        world.reset()
        for harness in world.harnesses.values():
            restore_unique_keys(harness.runtime.database.engine, harness.service)
