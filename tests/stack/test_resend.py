"""`lab outbox resend` publishes an order's events again; a service that has handled them already ignores them."""

from __future__ import annotations

from collections import Counter

import pytest

from labstack import Lab, LabError
from labstack.clients import broker
from labstack.clients.relay import Relay
from labstack.waiting import wait_until
from tests.stack.labs import Grounds
from tests.stack.one_order import cancel, effects, ended, place, read_order
from tests.stack.orders import TERMINAL
from tests.stack.test_bad_days import assert_clear
from tests.stack.test_relay import lose_the_slot
from tests.suite.chance import short_sample

NOBODY = "01890000-0000-7000-8000-000000000000"


def records(lab: Lab, order_id: str) -> list[broker.Record]:
    """Return all records of an order in chronological order."""
    topics = [service.events_topic for service in lab.services]
    return [record for record in broker.read_all(lab.endpoints.kafka, topics) if record.key == order_id]


def renew_slot(lab: Lab, service: str) -> None:
    """Give a connector a new slot; the events of the lost slot stay lost."""
    url = lab.endpoints.databases[service]
    relay = Relay(lab.endpoints.connect)
    relay.renew(service, url)
    relay.await_task(service, url)


@pytest.mark.parametrize("destination", ["lisbon", "tristan-da-cunha"], ids=["COMPLETED", "CANCELLED"])
def test_everything_comes_again_and_changes_nothing(shared: Grounds, destination: str) -> None:
    """Each record is published again with the same bytes and event ID, and the inboxes discard it."""
    lab = shared.lab
    lab.reset()
    order = place(lab, destination=destination)
    ended(lab, order)
    assert all(verdict.holds for verdict in lab.check(wait_for_rest=20))
    before, seen = read_order(lab, order), records(lab, order)
    told = shared.must("outbox", "resend", order)
    said = Counter(record.topic.removesuffix(".events") for record in seen)
    assert all(f"{service}: {rows} events are published again" in told for service, rows in said.items())

    assert wait_until(lambda: len(records(lab, order)) == 2 * len(seen), 20, interval=0.1)
    content = Counter((r.headers["ce_id"], r.value, str(sorted(r.headers.items()))) for r in records(lab, order))
    assert set(content.values()) == {2}
    verdicts = {verdict.name: verdict for verdict in lab.check(wait_for_rest=20)}
    assert all(verdict.holds for verdict in verdicts.values())
    inboxes = verdicts["inboxes-hold-each-event-once"].figures
    assert inboxes["inbox_rows"] == inboxes["expected"]
    assert read_order(lab, order) == before
    assert len(effects(lab, order)) == (1 if destination == "lisbon" else 2)


@pytest.mark.parametrize("service", short_sample(["order", "payment"], 1))
def test_a_lost_slot_heals(shared: Grounds, service: str) -> None:
    """`lab check` names orders that stall after the loss of a replication slot, and a resend lets them continue."""
    lab = shared.lab
    lab.reset()
    lose_the_slot(shared, service)
    order, called_off = place(lab), place(lab)
    assert cancel(lab, called_off) == 202
    with pytest.raises(LabError, match=service):
        lab.start("connect")
    if service == "payment":  # payment handles the event, and its own event is lost
        assert wait_until(lambda: effects(lab, order) == ["capture"], 20)
    renew_slot(lab, service)
    verdicts = {verdict.name: verdict for verdict in lab.check(wait_for_rest=20)}
    lost = {order} if service == "payment" else {order, called_off}
    assert lost <= set(verdicts["outboxes-are-in-kafka"].offenders)
    assert lost <= set(verdicts["orders-are-terminal"].offenders)
    for one in (order, called_off):
        shared.must("outbox", "resend", one)
    assert ended(lab, order)[0] in TERMINAL  # COMPLETED, unless a slow host exceeds the deadline
    assert ended(lab, called_off) == ("CANCELLED", "cancelled_by_customer")
    assert all(verdict.holds for verdict in lab.check(wait_for_rest=30))


def test_what_can_not_be_sent_is_said(shared: Grounds, grounds: Grounds) -> None:
    """An invalid ID, an unknown order, an unavailable database or a stopped lab is a clear error with the next step."""
    assert_clear(shared.run("outbox", "resend", "earl-grey"), "earl-grey", "UUID")
    assert_clear(shared.run("outbox", "resend", NOBODY), NOBODY, "GET /orders")
    order = place(shared.lab)
    ended(shared.lab, order)
    shared.lab.stop("inventory-db")
    assert_clear(shared.run("outbox", "resend", order), "inventory", "lab start inventory-db")
    shared.lab.start("inventory-db")
    shared.must("outbox", "resend", order)
    assert_clear(grounds.run("outbox", "resend", order), "not running", "lab up")
