"""A lab at rest after orders of every outcome, for the tests that corrupt its data."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from confluent_kafka import Producer

from labstack import Lab
from labstack.clients import http
from labstack.consistency.evidence import Evidence, collect
from labstack.scenarios.demo import run_demo
from labstack.waiting import wait_until
from tests.stack.one_order import cancel_order, place_order, wait_for_outcome


@dataclass(frozen=True)
class Case:
    """A lab at rest, after one order of each outcome, and its evidence.

    Attributes
    ----------
    orders : dict
        An order of each outcome: ``completed``, ``cancelled`` after all but the last step, ``refused`` by inventory,
        ``declined`` by payment, and ``shipped_back``, cancelled after all steps.
    """

    lab: Lab
    evidence: Evidence
    orders: dict[str, str]


def make_case(lab: Lab) -> Case:
    """Bring a lab to rest with orders of all outcomes, an idempotency key, and a dead letter."""
    lab.reset()
    run_demo(lab.endpoints)
    cancel_after_the_last_step(lab)
    body = {"customer_id": "ada", "destination": "lisbon", "items": [{"sku": "earl-grey", "quantity": 1}]}
    headers = {"Idempotency-Key": "once"}
    for status in (201, 200):
        answer = http.request("POST", f"{lab.endpoints.client('order')}/orders", json=body, headers=headers, timeout=10)
        assert answer.status_code == status
    assert wait_for_outcome(lab, answer.json()["order_id"]) == ("COMPLETED", None)
    publish_invalid_event(lab)
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []
    evidence = collect(lab.endpoints)
    return Case(lab, evidence, orders_by_outcome(evidence))


def cancel_after_the_last_step(lab: Lab) -> None:
    """Cancel an order whose shipment is scheduled, before the order service receives that event."""
    consumer = f"{lab.endpoints.services['order']}/manage/consumer"
    http.request("POST", f"{consumer}/pause", timeout=10).raise_for_status()
    try:
        order = place_order(lab)
        shipments = f"{lab.endpoints.client('shipping')}/shipping/shipments"
        wait_until(lambda: http.get(shipments, params={"order_id": order}).json()["items"], 20)
        assert cancel_order(lab, order) == 202
    finally:
        http.request("POST", f"{consumer}/resume", timeout=10).raise_for_status()
    assert wait_for_outcome(lab, order) == ("CANCELLED", "cancelled_by_customer")


def publish_invalid_event(lab: Lab) -> None:
    """Publish an event that inventory dead-letters at once."""
    producer = Producer({"bootstrap.servers": lab.endpoints.kafka, "broker.address.family": "v4"})
    headers: dict[str, str | bytes | None] = {"ce_id": str(uuid.uuid4()), "ce_type": "OrderCreated"}
    headers["ce_dataschema"] = "urn:sagalab:OrderCreated:1.0"
    producer.produce("order.events", "{}", str(uuid.uuid4()), headers=headers)
    producer.flush(10)
    wait_until(lambda: lab.dead_letters.all(), 20)


def orders_by_outcome(evidence: Evidence) -> dict[str, str]:
    """Return the latest order of each outcome."""
    outcomes = {
        None: "completed",
        "no_carrier": "cancelled",
        "insufficient_stock": "refused",
        "insufficient_funds": "declined",
        "cancelled_by_customer": "shipped_back",
    }
    found = {outcomes.get(row["failure_reason"]): row["order_id"] for row in evidence.rows("order", "orders")}
    return {outcome: found[outcome] for outcome in outcomes.values()}
