"""The fault switch guards-off: its effects while it is on, and the recovery afterwards."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from labservices.events import InventoryReserved
from labservices.faults.switches import components_for, drop_unique_keys, restore_unique_keys
from labservices.messaging.handling import Outcome
from labservices.runtime import Runtime
from labstack.waiting import wait_until
from tests.services.test_handlers import make_event
from tests.services.world import ServiceHarness, World, make_order_created, record_of


def unique_keys(harness: ServiceHarness) -> set[str]:
    query = text("SELECT conname FROM pg_constraint WHERE contype IN ('p', 'u')")
    with harness.runtime.database.engine.connect() as connection:
        return set(connection.execute(query).scalars())


@pytest.fixture
def charged_twice(world: World) -> Iterator[ServiceHarness]:
    """Payment with its guards restored, after it charged an order twice without them."""
    payment = world.payment
    engine, service = payment.runtime.database.engine, payment.service
    switches = {"teaching_switches": {"inbox-off": "", "guards-off": ""}}
    settings = payment.runtime.settings.model_copy(update=switches)
    runtime = Runtime(service, settings, components_for(service, settings))
    runtime.database.schema_created.set()
    before = unique_keys(payment)
    drop_unique_keys(engine, service)
    reserved = record_of(make_event(make_order_created(), InventoryReserved))
    assert [runtime.handling.handle(reserved) for _ in range(2)] == [Outcome.HANDLED] * 2
    runtime.database.engine.dispose()
    restore_unique_keys(engine, service)
    yield payment
    payment.reset()
    assert wait_until(lambda: unique_keys(payment) == before, 10)


def test_duplicate_charge_remains_in_the_ledger(charged_twice: ServiceHarness) -> None:
    """Without inbox and guards the same event charges twice, and both charges remain in the ledger."""
    assert [row.effect for row in charged_twice.rows("ledger_entries") if row.order_id] == ["capture"] * 2
    assert charged_twice.published() == ["PaymentCompleted"] * 2


def test_service_handles_other_orders_after_the_guards_are_restored(charged_twice: ServiceHarness) -> None:
    """With its guards restored a service handles other orders, although the duplicate charge still exists."""
    assert charged_twice.handle(make_event(make_order_created(), InventoryReserved)) is Outcome.HANDLED
    assert charged_twice.errors() == []


def test_blocked_key_is_restored_after_the_duplicate_is_removed(charged_twice: ServiceHarness) -> None:
    """The key that the duplicate charge blocks is restored soon after the duplicate is removed."""
    key = "ledger_entries_order_id_effect_key"
    assert key not in unique_keys(charged_twice)
    charged_twice.reset()
    assert wait_until(lambda: key in unique_keys(charged_twice), 10)
