"""`lab outbox resend` publishes an order's events again; a service that has handled them already ignores them."""

from __future__ import annotations

from collections import Counter

import pytest

from labstack import Lab, LabError
from labstack.clients import broker
from labstack.clients.relay import Relay
from labstack.lab import access_of
from labstack.waiting import wait_until
from tests.stack.labs import LabHarness
from tests.stack.one_order import cancel_order, ledger_effects, place_order, read_order, wait_for_outcome
from tests.stack.orders import TERMINAL
from tests.stack.test_bad_days import assert_readable_error
from tests.stack.test_relay import drop_slot
from tests.suite.chance import short_sample

UNKNOWN_ORDER = "01890000-0000-7000-8000-000000000000"


def records(lab: Lab, order_id: str) -> list[broker.Record]:
    """Return all records of an order in chronological order."""
    topics = [service.events_topic for service in access_of(lab).services]
    return [record for record in broker.read_all(lab.endpoints.kafka, topics) if record.key == order_id]


def renew_slot(lab: Lab, service: str) -> None:
    """Give a connector a new slot; the events of the lost slot stay lost."""
    url = lab.endpoints.databases[service]
    relay = Relay(lab.endpoints.connect)
    relay.renew(service, url)
    relay.await_task(service, url)


@pytest.mark.parametrize("destination", short_sample(["lisbon", "tristan-da-cunha"], 1), ids=["COMPLETED", "CANCELLED"])
def test_resent_events_have_no_effect(shared: LabHarness, destination: str) -> None:
    """Each record is published again with the same bytes and event ID, and the inboxes discard it."""
    lab = shared.lab
    lab.reset()
    order = place_order(lab, destination=destination)
    wait_for_outcome(lab, order)
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []
    before, seen = read_order(lab, order), records(lab, order)
    output = shared.run_checked("outbox", "resend", order)
    counts = Counter(record.topic.removesuffix(".events") for record in seen)
    assert all(f"{service}: {rows} events were published again" in output for service, rows in counts.items())

    assert wait_until(lambda: len(records(lab, order)) == 2 * len(seen), 20, interval=0.1)
    content = Counter((r.headers["ce_id"], r.value, str(sorted(r.headers.items()))) for r in records(lab, order))
    assert set(content.values()) == {2}
    verdicts = {verdict.name: verdict for verdict in lab.check(wait_for_rest=60)}
    assert [verdict for verdict in verdicts.values() if not verdict.holds] == []
    inboxes = verdicts["inboxes-hold-each-event-once"].figures
    assert inboxes["inbox_rows"] == inboxes["expected"]
    assert read_order(lab, order) == before
    assert len(ledger_effects(lab, order)) == (1 if destination == "lisbon" else 2)


@pytest.mark.parametrize("service", short_sample(["order", "payment"], 1))
def test_resend_continues_orders_after_a_lost_slot(shared: LabHarness, service: str) -> None:
    """`lab check` names orders that stall after the loss of a replication slot, and a resend lets them continue."""
    lab = shared.lab
    lab.reset()
    drop_slot(shared, service)
    order, cancelled = place_order(lab), place_order(lab)
    assert cancel_order(lab, cancelled) == 202
    with pytest.raises(LabError, match=service):
        lab.start("connect")
    if service == "payment":  # payment handles the event, and its own event is lost
        assert wait_until(lambda: ledger_effects(lab, order) == ["capture"], 20)
    renew_slot(lab, service)
    verdicts = {verdict.name: verdict for verdict in lab.check(wait_for_rest=60)}
    lost = {order} if service == "payment" else {order, cancelled}
    assert lost <= set(verdicts["outboxes-are-in-kafka"].offenders)
    assert lost <= set(verdicts["orders-are-terminal"].offenders)
    for one in (order, cancelled):
        shared.run_checked("outbox", "resend", one)
    assert wait_for_outcome(lab, order)[0] in TERMINAL  # COMPLETED, unless a slow host exceeds the deadline
    assert wait_for_outcome(lab, cancelled) == ("CANCELLED", "cancelled_by_customer")
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []


def test_impossible_resend_names_the_next_step(shared: LabHarness, harness: LabHarness) -> None:
    """An invalid ID, an unknown order, an unavailable database or a stopped lab is a clear error with the next step."""
    assert_readable_error(shared.run("outbox", "resend", "earl-grey"), "earl-grey", "UUID")
    assert_readable_error(shared.run("outbox", "resend", UNKNOWN_ORDER), UNKNOWN_ORDER, "GET /orders")
    order = place_order(shared.lab)
    wait_for_outcome(shared.lab, order)
    shared.lab.stop("inventory-db")
    assert_readable_error(shared.run("outbox", "resend", order), "inventory", "lab start inventory-db")
    shared.lab.start("inventory-db")
    shared.run_checked("outbox", "resend", order)
    assert_readable_error(harness.run("outbox", "resend", order), "not running", "lab up")
