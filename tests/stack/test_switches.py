"""The fault switches: each causes its fault, in its service only, and a reset turns all of them off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from labservices.faults.switches import DualWriting, components_for
from labservices.messaging.outbox import Outbox
from labservices.payment import service as payment_service
from labservices.runtime import Runtime
from labservices.settings import FAULT_SWITCHES, Settings
from labstack import Lab, LabError
from labstack.clients import broker
from labstack.config.paths import DATASETS
from labstack.lab import access_of
from labstack.waiting import wait_until
from tests.stack.labs import LabHarness
from tests.stack.one_order import ledger_effects, place_order, read_order, read_payment, wait_for_outcome
from tests.stack.orders import TERMINAL, Customer
from tests.stack.test_bad_days import assert_readable_error
from tests.suite.chance import short_sample

UNIQUE_KEYS = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype IN ('p', 'u') ORDER BY 1"


@pytest.fixture
def lab(shared: LabHarness) -> Iterator[Lab]:
    """Return the shared lab at the start of the course; reset it after the test if a fault switch is on."""
    shared.lab.reset()
    yield shared.lab
    if shared.lab.faults.active:
        shared.lab.reset()


def query_rows(lab: Lab, service: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Run a query on a service's database and return the rows."""
    with psycopg.connect(lab.endpoints.databases[service], connect_timeout=5) as connection:
        return connection.execute(query.encode(), values or None).fetchall()


def event_types(lab: Lab, order_id: str) -> list[str]:
    """Return the types of all records of an order in chronological order."""
    topics = [service.events_topic for service in access_of(lab).services]
    return [record.type for record in broker.read_all(lab.endpoints.kafka, topics) if record.key == order_id]


# --- turning them on and off


@pytest.mark.parametrize("switch", short_sample(FAULT_SWITCHES, 1))
def test_active_switch_is_shown_and_restarts_one_service(shared: LabHarness, lab: Lab, switch: str) -> None:
    """Status, repr and list show a switch that is on; only its service restarts, and all services are ready."""
    before = shared.pids()
    what = f"{switch}=1" if switch == "slow-handler" else switch
    shared.run_checked("switch", "on", "shipping", what)
    after = shared.pids()
    assert {name for name in before if before[name] != after[name]} == {"shipping"}
    status = shared.status()
    assert status["state"] == "ready"
    on = {name: component["switches"] for name, component in status["components"].items() if "switches" in component}
    assert on == {"shipping": {switch: "1" if switch == "slow-handler" else ""}}
    assert f"fault switches: {what}" in " ".join(shared.run_checked("status").split())
    for shown in (repr(lab), lab._repr_html_()):
        assert shown.count(f"(fault switches: {what})") == 1
    assert json.loads(shared.run_checked("switch", "list", "--json"))["on"] == on
    shared.run_checked("switch", "off", "shipping", switch)
    assert lab.faults.active == {}
    assert {name for name, pid in shared.pids().items() if after[name] != pid} == {"shipping"}


@pytest.mark.parametrize("switches", [list(FAULT_SWITCHES), list(FAULT_SWITCHES)[::-1]], ids=["in order", "in reverse"])
def test_all_switches_can_be_combined(switches: list[str]) -> None:
    """A service can be built with all switches on, in any order."""
    settings = Settings(
        database_url="postgresql://localhost/nowhere",
        kafka_bootstrap_servers="localhost:1",
        datasets_dir=DATASETS,
        teaching_switches=dict.fromkeys(switches, ""),
    )
    runtime = Runtime(payment_service, settings, components_for(payment_service, settings))
    assert isinstance(runtime.database, DualWriting)
    outbox = runtime.database._outbox
    assert isinstance(outbox, Outbox)
    assert outbox.traceparent() is None


def test_switches_can_be_on_in_several_services(shared: LabHarness, lab: Lab) -> None:
    """Several switches can be on in one service or in several, and are turned off one by one or per service."""
    lab.faults.on("order", "strip-traceparent")
    lab.faults.on("payment", "inbox-off")
    lab.faults.on("payment", "slow-handler", 0.1)
    assert lab.faults.active == {
        "order": {"strip-traceparent": ""},
        "payment": {"inbox-off": "", "slow-handler": "0.1"},
    }
    pids = shared.pids()
    lab.faults.on("payment", "inbox-off")
    lab.faults.off("payment", "poison-next")
    assert shared.pids() == pids
    lab.faults.off("payment", "inbox-off")
    assert lab.faults.active["payment"] == {"slow-handler": "0.1"}
    lab.faults.off("payment")
    assert lab.faults.active == {"order": {"strip-traceparent": ""}}
    # A stopped service applies the switch when it starts.
    lab.stop("order")
    lab.faults.on("order", "slow-handler", 0.2)
    assert shared.state_of("order") == "stopped"
    lab.start("order")
    assert "slow-handler=0.2" in lab.logs("order")


@pytest.mark.parametrize(("end", "switch"), [("reset", "guards-off"), ("down", "offset-first")])
def test_reset_and_down_turn_all_off(shared: LabHarness, lab: Lab, end: str, switch: str) -> None:
    """After a `reset`, or a `down` and an `up`, all switches are off and orders complete."""
    lab.faults.on("payment", switch)
    lab.faults.on("inventory", "poison-next")
    shared.run_checked(end)
    assert lab.faults.active == {}
    assert "switches" not in str(shared.status())
    if end == "down":
        shared.run_checked("up")
    for service in ("inventory", "payment"):
        assert "is on" not in lab.logs(service)
    assert wait_for_outcome(lab, place_order(lab)) == ("COMPLETED", None)


def test_invalid_switch_lists_the_valid_ones(shared: LabHarness, lab: Lab, harness: LabHarness) -> None:
    """An unknown service, switch or value is an error that lists the valid ones, and changes nothing."""
    pids = shared.pids()
    assert_readable_error(shared.run("switch", "on", "paymint", "inbox-off"), "paymint", "payment")
    assert_readable_error(
        shared.run("switch", "off", "payment", "outbox-off"), "outbox-off", "inbox-off", "lab switch list"
    )
    assert_readable_error(shared.run("switch", "on", "payment", "slow-handler=60"), "60", "below 8", "lab switch list")
    with pytest.raises(LabError, match="kafka"):
        lab.faults.on("kafka", "inbox-off")
    for wrong in ("outbox-off", "slow-handler=long", "dual-write=crash", "inbox-off=1", "inbox-off,poison-next", ""):
        with pytest.raises(LabError, match="lab switch list"):
            lab.faults.on("payment", *wrong.split("=", 1))
    assert (lab.faults.active, shared.pids()) == ({}, pids)
    assert_readable_error(harness.run("switch", "on", "payment", "inbox-off"), "not running", "lab up")


# --- effects of each switch


def test_inbox_off_alone_is_caught_by_the_guards(lab: Lab) -> None:
    """Redelivered events are handled again without effect, because the row's status guards against them."""
    order = place_order(lab)
    assert wait_for_outcome(lab, order) == ("COMPLETED", None)
    lab.faults.on("payment", "inbox-off")
    lab.resend(order)
    assert wait_until(lambda: event_types(lab, order).count("InventoryReserved") == 2, 10)
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []
    assert ledger_effects(lab, order) == ["capture"]


@pytest.mark.long
def test_inbox_and_guards_off_charge_twice(shared: LabHarness, lab: Lab) -> None:
    """A redelivered event captures the money again, `lab check` names the order, and a reset restores every guard."""
    guards = query_rows(lab, "payment", UNIQUE_KEYS)
    order = place_order(lab)
    assert wait_for_outcome(lab, order) == ("COMPLETED", None)
    lab.faults.on("payment", "inbox-off")
    lab.faults.on("payment", "guards-off")
    assert len(query_rows(lab, "payment", UNIQUE_KEYS)) < len(guards)
    lab.resend(order)
    captures = "SELECT count(*) FROM ledger_entries WHERE order_id = %s AND effect = 'capture'"
    assert wait_until(lambda: query_rows(lab, "payment", captures, order) == [(2,)], 10)
    found = shared.run("check", "--json", "--wait", "20")
    assert found.returncode == 1
    violated = {verdict["name"]: verdict["offenders"] for verdict in json.loads(found.stdout) if not verdict["holds"]}
    assert violated["money-matches-orders"] == [order]
    assert violated["each-effect-is-taken-once"] == [order]

    lab.reset()
    assert wait_until(lambda: query_rows(lab, "payment", UNIQUE_KEYS) == guards, 10)
    customer = Customer(lab, Customer(lab).orders[:20]).start()
    customer.wait()
    customer.assert_all_ended_as_expected()
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []


@pytest.mark.long
def test_dual_write_works_without_a_crash(lab: Lab) -> None:
    """As long as nothing crashes, events are published and orders complete, with nothing in the outbox."""
    lab.faults.on("payment", "dual-write")
    order = place_order(lab)
    assert wait_for_outcome(lab, order) == ("COMPLETED", None)
    assert "PaymentCompleted" in event_types(lab, order)
    assert query_rows(lab, "payment", "SELECT type FROM outbox") == []


@pytest.mark.long
def test_dual_write_loses_an_event(shared: LabHarness, lab: Lab) -> None:
    """If the service crashes after the commit, the money is captured, but the event is never published."""
    lab.faults.on("payment", "dual-write", "crash-after-commit")
    order = place_order(lab)
    assert wait_until(lambda: shared.state_of("payment") == "failed", 20)
    lab.faults.off("payment")
    assert ledger_effects(lab, order) == ["capture"]
    verdicts = {verdict.name: verdict for verdict in lab.check(wait_for_rest=60)}
    assert verdicts["orders-are-terminal"].offenders == [order]
    assert "PaymentCompleted" not in event_types(lab, order)
    assert read_order(lab, order)["status"] not in TERMINAL


@pytest.mark.long
def test_dual_write_invents_an_event(shared: LabHarness, lab: Lab) -> None:
    """If the service crashes before the commit, a shipment is scheduled for a payment that was never made."""
    lab.faults.on("payment", "dual-write", "crash-before-commit")
    order = place_order(lab)
    assert wait_until(lambda: shared.state_of("payment") == "failed", 20)
    shipments = "SELECT status FROM shipments WHERE order_id = %s"
    assert wait_until(lambda: query_rows(lab, "shipping", shipments, order) != [], 20)
    assert query_rows(lab, "payment", "SELECT effect FROM ledger_entries WHERE order_id IS NOT NULL") == []
    assert "PaymentCompleted" in event_types(lab, order)


@pytest.mark.parametrize(
    "wrong", [True, pytest.param(False, marks=pytest.mark.long)], ids=["offset-first", "offset-last"]
)
def test_offset_order_decides_whether_a_killed_handler_loses_its_event(
    shared: LabHarness, lab: Lab, wrong: bool
) -> None:
    """After a kill of its handler, an event is lost if its offset was committed first, and redelivered otherwise."""
    if wrong:
        lab.faults.on("payment", "offset-first")
    lab.faults.on("payment", "slow-handler", 3)
    order = place_order(lab)
    busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%inbox%'"
    assert wait_until(lambda: query_rows(lab, "payment", busy) == [(1,)], 20)
    lab.faults.kill("payment")
    lab.faults.off("payment")
    if not wrong:
        assert wait_for_outcome(lab, order) == ("COMPLETED", None)
        return
    verdicts = {verdict.name: verdict for verdict in lab.check(wait_for_rest=60)}
    assert verdicts["inboxes-hold-each-event-once"].offenders == [order]
    assert read_payment(lab, order) == {}
    # A lost event can be resent.
    lab.resend(order)
    assert wait_for_outcome(lab, order)[0] in TERMINAL
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []


@pytest.mark.long
def test_slow_handler_delays_each_event(lab: Lab) -> None:
    """Each event takes the given number of seconds longer in that service."""
    lab.faults.on("inventory", "slow-handler", 1.5)
    order = place_order(lab)
    assert wait_for_outcome(lab, order) == ("COMPLETED", None)
    ((created,),) = query_rows(lab, "order", "SELECT created_at FROM outbox WHERE type = 'OrderCreated'")
    ((reserved,),) = query_rows(lab, "inventory", "SELECT created_at FROM outbox WHERE type = 'InventoryReserved'")
    assert (reserved - created).total_seconds() >= 1.5


@pytest.mark.long
def test_strip_traceparent_ends_the_trace(lab: Lab) -> None:
    """The service's events belong to no trace; the other services continue theirs."""
    lab.faults.on("inventory", "strip-traceparent")
    order = place_order(lab)
    assert wait_for_outcome(lab, order) == ("COMPLETED", None)
    traced = {s: {t for (t,) in query_rows(lab, s, "SELECT traceparent FROM outbox")} for s in lab.endpoints.databases}
    assert traced["inventory"] == {None}
    assert all(None not in traced[service] for service in ("order", "payment", "shipping"))
    records = broker.read_all(lab.endpoints.kafka, ["inventory.events"])
    assert [record.headers.get("traceparent") for record in records if record.key == order] == [None]
