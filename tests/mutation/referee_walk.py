"""The walk over the referee's evidence, without a lab: the evidence is that of four services on a database server.

The mutation tests name this file. The short suite runs the same walk on a lab.
"""

from __future__ import annotations

import pickle
import tempfile
from contextlib import closing
from pathlib import Path
from random import Random
from typing import cast

import pytest

from labservices.messaging.consumer import producer_settings
from labservices.messaging.dead_letters import DeadLetterPublisher
from labservices.messaging.handling import Outcome
from labservices.record import Record
from labservices.telemetry import tracing
from labstack import Lab
from labstack.consistency.evidence import Evidence
from tests.services.broker import Broker
from tests.services.faults import Faults
from tests.services.kafka import KafkaBroker
from tests.services.postgres import postgres_server
from tests.services.referee import collect_evidence
from tests.services.world import DATASETS, SERVICES, World, changed, make_order_created, record_of
from tests.stack.all_outcomes import Case, orders_by_outcome
from tests.stack.test_referee_walk import (
    test_balance_below_zero_is_named,
    test_events_that_differ_in_row_and_record_alike_are_found,
    test_every_copy_under_another_id_is_found,
    test_every_record_is_confirmed,
    test_every_row_is_confirmed,
    test_every_value_is_confirmed,
)

__all__ = [
    "test_balance_below_zero_is_named",
    "test_events_that_differ_in_row_and_record_alike_are_found",
    "test_every_copy_under_another_id_is_found",
    "test_every_record_is_confirmed",
    "test_every_row_is_confirmed",
    "test_every_value_is_confirmed",
]

RECORDED = Path(__file__).with_name("evidence.pickle")
"""The evidence, which the first run records for the runs with a mutant."""


@pytest.fixture(scope="module")
def case() -> Case:
    """Return evidence with orders of all outcomes."""
    if not RECORDED.exists():
        RECORDED.write_bytes(pickle.dumps(make_evidence()))
    evidence = pickle.loads(RECORDED.read_bytes())
    return Case(cast(Lab, None), evidence, orders_by_outcome(evidence))


def make_evidence() -> Evidence:
    """Return the evidence of four services at rest, after an order of each outcome."""
    with postgres_server() as server, tempfile.TemporaryDirectory() as folder:
        for name, content in DATASETS.items():
            (Path(folder) / name).write_text(content, encoding="utf-8")
        tracing.set_up("tests")
        urls = {service.name: server.create_database(service.name) for service in SERVICES}
        with closing(World(urls, Path(folder))) as world:
            faults = Faults(world)
            with closing(faults):
                broker = Broker(world, faults)
                place_orders(world, broker)
                for _ in broker.settle(Random(1)):
                    pass
                invalid, letters = dead_letter(world)
                return collect_evidence(world, [*broker.records, invalid], letters)


def dead_letter(world: World) -> tuple[Record, list[Record]]:
    """Let inventory dead-letter an invalid record; return the record, and the records of the dead-letter topic."""
    runtime = world.inventory.runtime
    invalid = changed(record_of(make_order_created()), value=b"{}", offset=10_000)
    with closing(KafkaBroker("inventory.dlq")) as kafka:
        settings = producer_settings(runtime.service, kafka.settings(runtime.settings))
        runtime.handling._dead_letters = DeadLetterPublisher("inventory", settings)
        assert runtime.handling.handle(invalid) is Outcome.FAILED
        assert runtime.handling.try_parked() is Outcome.DEAD
        return invalid, kafka.read("inventory.dlq")


def place_orders(world: World, broker: Broker) -> None:
    """Place an order of each outcome; the customer cancels one after its shipment is scheduled."""
    cancelled = world.place()
    while lanes := [lane for lane in broker.waiting() if lane[0] != "order"]:
        broker.deliver(lanes[0])
    assert world.order.http.post(f"/orders/{cancelled}/cancel").status_code == 202
    world.place(mug=2, pot=1)
    world.place(destination="utopia")
    world.place(gone=1)
    world.place(customer_id="pip")
