"""The handlers: the reaction of each service to one event, when it arrives twice, too early or too late."""

import threading
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import IntegrityError

from labservices.events import (
    ErrorEvent,
    Event,
    InventoryReleased,
    InventoryReservationFailed,
    InventoryReserved,
    Line,
    OrderCancelRequested,
    OrderCompleted,
    OrderCreated,
    OrderTimedOut,
    PaymentCompleted,
    PaymentFailed,
    PaymentRefunded,
    ShipmentCancelled,
    ShipmentScheduled,
    ShippingFailed,
    error_events_for,
)
from labservices.messaging.handling import Outcome
from labservices.storage.steps import GuardFailed
from tests.services.world import ServiceHarness, World, make_order_created


def make_event(order: Event, kind: type[Event]) -> Any:
    """Return an event of another type about the order, with the fields that it needs."""
    more: dict[str, Any] = {
        "reservation_id": uuid4(),
        "payment_id": uuid4(),
        "shipment_id": uuid4(),
        "amount_cents": order.total_cents,
        "carrier": "heron-post",
        "reason": "for_a_reason",
        "shortages": [],
    }
    return kind.about(order, **{name: value for name, value in more.items() if name in kind.model_fields})


# For each step: its service, the event that requests it, the events of success and failure, and the event of the undo.
STEPS = [
    ("inventory", OrderCreated, InventoryReserved, InventoryReservationFailed, InventoryReleased),
    ("payment", InventoryReserved, PaymentCompleted, PaymentFailed, PaymentRefunded),
    ("shipping", PaymentCompleted, ShipmentScheduled, ShippingFailed, ShipmentCancelled),
]
EFFECTS = {"inventory": "stock_movements", "payment": "ledger_entries", "shipping": "carrier_bookings"}


def effects(harness: ServiceHarness, order: Event) -> list[str]:
    return [row.effect for row in harness.rows(EFFECTS[harness.service.name], order_id=order.order_id)]


@pytest.mark.parametrize(("name", "command", "success", "failure", "undo"), STEPS)
class TestStep:
    """Properties that all three steps share."""

    def test_repeated_command_is_answered_once(
        self, world: World, name: str, command: Any, success: Any, failure: Any, undo: Any
    ) -> None:
        """The same record again is a duplicate; the same command under another id has no effect either."""
        harness, order, event_id = world.harnesses[name], make_order_created(), uuid4()
        assert harness.handle(make_event(order, command), event_id) is Outcome.HANDLED
        assert harness.handle(make_event(order, command), event_id) is Outcome.DUPLICATE
        assert harness.handle(make_event(order, command)) is Outcome.HANDLED
        assert harness.published() == [success.type()]
        assert len(effects(harness, order)) == 1
        assert len(harness.rows("inbox")) == 2

    def test_error_events_undo_a_step_once(
        self, world: World, name: str, command: Any, success: Any, failure: Any, undo: Any
    ) -> None:
        """One undo follows, whichever error event is first and however many there are."""
        harness = world.harnesses[name]
        for first in error_events_for(name):
            order = make_order_created()
            harness.handle(make_event(order, command))
            for error in [first, *error_events_for(name)]:
                harness.handle(make_event(order, error))
            assert harness.published(order.order_id) == [success.type(), undo.type()]
            assert len(effects(harness, order)) == 2

    def test_command_after_a_cancel_fails(
        self, world: World, name: str, command: Any, success: Any, failure: Any, undo: Any
    ) -> None:
        """A cancel leaves a tombstone and publishes no event; the command that follows is answered with the failure."""
        harness, order = world.harnesses[name], make_order_created()
        harness.handle(make_event(order, OrderCancelRequested))
        assert harness.published() == []
        harness.handle(make_event(order, command))
        harness.handle(make_event(order, command))
        harness.handle(make_event(order, OrderTimedOut))
        assert harness.published() == [failure.type()]
        assert harness.rows("outbox")[0].payload["reason"] == "order_cancelled"
        assert effects(harness, order) == []

    def test_command_after_the_undo_has_no_effect(
        self, world: World, name: str, command: Any, success: Any, failure: Any, undo: Any
    ) -> None:
        """A command that is replayed after the undo does not repeat the effect."""
        harness, order = world.harnesses[name], make_order_created()
        for event in (command, OrderCancelRequested, command):
            harness.handle(make_event(order, event))
        assert harness.published() == [success.type(), undo.type()]

    def test_concurrent_consumers_have_one_effect(
        self, world: World, name: str, command: Any, success: Any, failure: Any, undo: Any
    ) -> None:
        """The same record and the same command under other ids, handled at once, have one effect and one answer."""
        harness, order, event_id = world.harnesses[name], make_order_created(), uuid4()
        outcomes: list[Outcome] = []
        together = threading.Barrier(6)

        def handle(an_id: UUID) -> None:
            together.wait(10)
            outcomes.append(harness.handle(make_event(order, command), an_id))

        ids = [event_id] * 3 + [uuid4() for _ in range(3)]
        threads = [threading.Thread(target=handle, args=(one,)) for one in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(outcomes) == [Outcome.DUPLICATE] * 2 + [Outcome.HANDLED] * 4
        assert harness.published() == [success.type()]
        assert len(effects(harness, order)) == 1


@pytest.mark.parametrize(
    ("name", "command", "other", "reason"),
    [
        (
            "inventory",
            OrderCreated,
            {"items": [Line(sku="gone", quantity=1, unit_price_cents=500)]},
            "insufficient_stock",
        ),
        (
            "inventory",
            OrderCreated,
            {"items": [Line(sku="unheard", quantity=1, unit_price_cents=500)]},
            "insufficient_stock",
        ),
        ("payment", InventoryReserved, {"customer_id": "pip"}, "insufficient_funds"),
        ("payment", InventoryReserved, {"customer_id": "nobody"}, "unknown_customer"),
        ("shipping", PaymentCompleted, {"destination": "utopia"}, "no_carrier"),
        ("shipping", PaymentCompleted, {"destination": "nowhere"}, "no_carrier"),
    ],
)
def test_failure_has_a_reason_and_no_effect(
    world: World, name: str, command: type[Event], other: dict[str, Any], reason: str
) -> None:
    """The failure follows from the data, and a later error event finds nothing to undo."""
    order = make_order_created(**other)
    harness = world.harnesses[name]
    harness.handle(make_event(order, command))
    harness.handle(make_event(order, OrderCancelRequested))
    [row] = harness.rows("outbox")
    assert row.payload["reason"] == reason
    assert effects(harness, order) == []


def test_goods_are_reserved_all_or_none(world: World) -> None:
    """If one line is short, no line is reserved and the shortage is named; lines of one product are added up."""
    order_id = world.place(mug=1, rare=2)
    world.settle()
    failed = world.inventory.rows("outbox", aggregateid=order_id)[0]
    assert failed.payload["shortages"] == [{"sku": "rare", "requested": 2, "available": 1}]
    assert world.stock("mug") == (100, 0, 0)


@pytest.mark.parametrize(("name", "command"), [("inventory", OrderCreated), ("shipping", PaymentCompleted)])
def test_completion_is_applied_once_and_is_final(world: World, name: str, command: type[Event]) -> None:
    """OrderCompleted has one effect; an error event after it is impossible and is not handled."""
    harness, order = world.harnesses[name], make_order_created()
    for event in (command, OrderCompleted, OrderCompleted):
        harness.handle(make_event(order, event))
    assert len(effects(harness, order)) == 2
    assert harness.handle(make_event(order, OrderCancelRequested)) is Outcome.FAILED
    assert "ContradictingEvent" in harness.errors()[0]


@pytest.mark.parametrize("name", ["inventory", "shipping"])
def test_completion_without_the_step_before_it_is_not_handled(world: World, name: str) -> None:
    """OrderCompleted without the step before it raises, and leaves neither a row nor an inbox entry."""
    harness = world.harnesses[name]
    assert harness.handle(make_event(make_order_created(), OrderCompleted)) is Outcome.FAILED
    assert "ContradictingEvent" in harness.errors()[0]
    assert harness.rows("inbox") == []
    assert harness.rows("reservations" if name == "inventory" else "shipments") == []


class TestOrder:
    """The reaction of the order to the answers."""

    def placed_order(self, world: World) -> OrderCreated:
        order_id = world.place()
        payload = world.order.rows("outbox", aggregateid=order_id)[0].payload
        return make_order_created(order_id=order_id, total_cents=payload["total_cents"])

    @pytest.mark.parametrize(
        "arrivals",
        [
            [InventoryReserved, PaymentCompleted, ShipmentScheduled],
            [InventoryReserved, ShipmentScheduled, PaymentCompleted],
            [PaymentCompleted, InventoryReserved, ShipmentScheduled],
            [PaymentCompleted, ShipmentScheduled, InventoryReserved],
            [ShipmentScheduled, InventoryReserved, PaymentCompleted],
            [ShipmentScheduled, PaymentCompleted, InventoryReserved],
        ],
    )
    def test_successes_in_any_order_have_the_same_history(self, world: World, arrivals: list[type[Event]]) -> None:
        """A success that overtakes its predecessor waits, and the history then names its own event."""
        order = self.placed_order(world)
        ids = {kind: uuid4() for kind in arrivals}
        for kind in arrivals:
            world.order.handle(make_event(order, kind), ids[kind])
        assert world.history(order.order_id) == ["PENDING", "RESERVED", "PAID", "COMPLETED"]
        assert [row.version for row in world.order.rows("order_history")] == [1, 2, 3, 4]
        assert world.order.rows("orders")[0].version == 4
        events = [row.event_id for row in world.order.rows("order_history")][1:]
        assert events == [ids[InventoryReserved], ids[PaymentCompleted], ids[ShipmentScheduled]]
        assert world.order.published() == ["OrderCreated", "OrderCompleted"]
        assert world.order.rows("outbox")[-1].causation_id == ids[ShipmentScheduled]

    def test_repeated_answers_change_nothing(self, world: World) -> None:
        """The same answer under another id, and a second answer of the same step, change nothing."""
        order = self.placed_order(world)
        for kind in (InventoryReserved, InventoryReserved, InventoryReservationFailed):
            assert world.order.handle(make_event(order, kind)) is Outcome.HANDLED
        assert world.history(order.order_id) == ["PENDING", "RESERVED"]
        assert [row.effect for row in world.order.rows("order_answers")] == ["inventory answered"]

    @pytest.mark.parametrize(
        ("failure", "undos"),
        [
            (InventoryReservationFailed, []),
            (PaymentFailed, [InventoryReleased]),
            (ShippingFailed, [PaymentRefunded, InventoryReleased]),
        ],
    )
    def test_order_is_cancelled_once_every_step_is_undone(
        self, world: World, failure: type[ErrorEvent], undos: list[type[Event]]
    ) -> None:
        """A failure proves even unseen successes before it, so their undos are awaited; late answers are recorded."""
        order = self.placed_order(world)
        world.order.handle(make_event(order, failure))
        for undo in undos:
            assert world.status(order.order_id) == "CANCELLING"
            world.order.handle(make_event(order, undo))
        assert world.history(order.order_id) == ["PENDING", "CANCELLING", "CANCELLED"]
        assert world.order.published() == ["OrderCreated", "OrderCancelled"]
        if undos:
            world.order.handle(make_event(order, InventoryReserved))
            assert world.status(order.order_id) == "CANCELLED"
            assert "InventoryReserved" in [row.type for row in world.order.rows("order_answers")]

    def test_history_gives_the_reason_from_the_failure_on(self, world: World) -> None:
        """CANCELLING and CANCELLED have the order's reason, whichever event led to them; the others have none."""
        order = self.placed_order(world)
        for kind in (InventoryReserved, PaymentFailed, InventoryReleased):
            world.order.handle(make_event(order, kind))
        items = world.order.http.get(f"/orders/{order.order_id}/history").json()["items"]
        assert [(item["status"], item["reason"]) for item in items] == [
            ("PENDING", None),
            ("RESERVED", None),
            ("CANCELLING", "for_a_reason"),
            ("CANCELLED", "for_a_reason"),
        ]

    def test_first_failure_reason_is_kept(self, world: World) -> None:
        """After a customer's cancel, a later failure does not change the reason."""
        order = self.placed_order(world)
        world.order.http.post(f"/orders/{order.order_id}/cancel")
        world.order.handle(make_event(order, InventoryReservationFailed))
        found = world.order.http.get(f"/orders/{order.order_id}").json()
        assert (found["status"], found["failure_reason"]) == ("CANCELLED", "cancelled_by_customer")

    def test_cancel_before_the_last_success_undoes_every_step(self, world: World) -> None:
        """A shipment scheduled after the cancel ends the chain; the order waits for all three undos."""
        order = self.placed_order(world)
        for kind in (InventoryReserved, PaymentCompleted):
            world.order.handle(make_event(order, kind))
        assert world.order.http.post(f"/orders/{order.order_id}/cancel").status_code == 202
        for late in (InventoryReleased, PaymentRefunded, ShipmentScheduled):
            world.order.handle(make_event(order, late))
            assert world.status(order.order_id) == "CANCELLING"
        world.order.handle(make_event(order, ShipmentCancelled))
        assert world.history(order.order_id) == ["PENDING", "RESERVED", "PAID", "CANCELLING", "CANCELLED"]

    def test_answer_about_an_unknown_order_is_parked(self, world: World) -> None:
        """An answer about an unknown order is parked, and has no other effect."""
        assert world.order.handle(make_event(make_order_created(), InventoryReserved)) is Outcome.FAILED
        assert "UnknownOrder" in world.order.errors()[0]
        assert world.order.rows("inbox") == []


def test_guarded_transition_requires_the_expected_status(world: World) -> None:
    """If the row has another status, nothing changes and the transaction fails."""
    order_id = world.place()
    table = world.order.service.tables.tables["orders"]
    with pytest.raises(GuardFailed), world.order.runtime.database.transaction() as tx:
        tx.move(table, order_id, "PAID", status="COMPLETED")
    assert world.status(order_id) == "PENDING"


def test_unique_key_rejects_a_second_effect(world: World) -> None:
    """Without inbox and guard, the database itself rejects a second capture for an order."""
    order = make_order_created()
    world.payment.handle(make_event(order, InventoryReserved))
    [entry] = world.payment.rows("ledger_entries", order_id=order.order_id)
    table = world.payment.service.tables.tables["ledger_entries"]
    again = dict(entry._mapping) | {"entry_id": uuid4()}
    with pytest.raises(IntegrityError), world.payment.runtime.database.transaction() as tx:
        tx.execute(table.insert(), again)


@pytest.mark.parametrize(
    "wrong",
    [
        {"aggregatetype": "payment"},
        {"type": ""},
        {"type": "Order Created"},
        {"payload": []},
        {"payload": "text"},
        {"payload": {"x": "y" * 600_000}},
        {"dataschema": "OrderCreated"},
        {"source": ""},
        {"traceparent": "00-1-2-3"},
        {"aggregateid": None},
    ],
)
def test_outbox_constraints_reject_invalid_rows(world: World, wrong: dict[str, Any]) -> None:
    """The outbox's CHECK constraints reject an invalid row from any writer."""
    order_id = world.place()
    [row] = world.order.rows("outbox", aggregateid=order_id)
    table = world.order.service.tables.tables["outbox"]
    good = dict(row._mapping) | {"id": uuid4(), "type": "Other"}
    with world.order.runtime.database.transaction() as tx:
        tx.execute(table.insert(), good)
    with pytest.raises(IntegrityError), world.order.runtime.database.transaction() as tx:
        tx.execute(table.insert(), good | {"id": uuid4(), "type": "Another"} | wrong)
