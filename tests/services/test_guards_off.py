"""The fault switch guards-off: its effects while it is on, and the recovery afterwards."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from labservices.faults import teaching
from labservices.messaging.events import InventoryReserved
from labservices.messaging.handling import Outcome
from labservices.runtime import Runtime
from labstack.waiting import wait_until
from tests.services.test_handlers import of
from tests.services.world import Party, World, a_new_order, record_of


def unique_keys(party: Party) -> set[str]:
    query = text("SELECT conname FROM pg_constraint WHERE contype IN ('p', 'u')")
    with party.runtime.database.engine.connect() as connection:
        return set(connection.execute(query).scalars())


@pytest.fixture
def charged_twice(world: World) -> Iterator[Party]:
    """Payment with its guards restored, after it charged an order twice without them."""
    payment = world.payment
    engine, service = payment.runtime.database.engine, payment.service
    switches = {"teaching_switches": {"inbox-off": "", "guards-off": ""}}
    settings = payment.runtime.settings.model_copy(update=switches)
    runtime = Runtime(service, settings, teaching.parts_for(service, settings))
    runtime.database.schema_made.set()
    before = unique_keys(payment)
    teaching.drop_unique_keys(engine, service)
    reserved = record_of(of(a_new_order(), InventoryReserved))
    assert [runtime.handling.handle(reserved) for _ in range(2)] == [Outcome.HANDLED] * 2
    runtime.database.engine.dispose()
    teaching.put_unique_keys_back(engine, service)
    yield payment
    payment.reset()
    assert wait_until(lambda: unique_keys(payment) == before, 10)


def test_a_wrong_charge_stays_to_be_seen(charged_twice: Party) -> None:
    """Without inbox and guards the same event charges twice, and both charges remain in the ledger."""
    assert [row.effect for row in charged_twice.rows("ledger_entries") if row.order_id] == ["capture"] * 2
    assert charged_twice.said() == ["PaymentCompleted"] * 2


def test_the_service_works_again_at_once(charged_twice: Party) -> None:
    """With its guards restored a service handles other orders, although the duplicate charge still exists."""
    assert charged_twice.take(of(a_new_order(), InventoryReserved)) is Outcome.HANDLED
    assert charged_twice.errors() == []


def test_the_last_guard_comes_back_by_itself(charged_twice: Party) -> None:
    """The key that the duplicate charge blocks is restored soon after the duplicate is removed."""
    key = "ledger_entries_order_id_effect_key"
    assert key not in unique_keys(charged_twice)
    charged_twice.reset()
    assert wait_until(lambda: key in unique_keys(charged_twice), 10)
