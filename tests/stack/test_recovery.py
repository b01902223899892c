"""Automatic recovery: when an unavailable component returns, nothing else needs a restart, a resend or a repair."""

from __future__ import annotations

import contextlib
from operator import attrgetter
from typing import Any

import httpx
import psycopg
import pytest
from confluent_kafka import Consumer

from labstack import Lab, LabError
from labstack.clients import http
from labstack.clients.broker import leave, silent_logger
from labstack.clients.relay import Relay
from labstack.clients.replication import slot_is_read
from labstack.lab import access_of
from labstack.waiting import poll_until, wait_until
from tests.stack.labs import LabHarness
from tests.stack.one_order import ledger_effects, place_order, read_order, wait_for_outcome
from tests.stack.orders import TERMINAL, Customer
from tests.suite.chance import short_sample

SERVICES = ("order", "inventory", "payment", "shipping")


def is_ready(lab: Lab) -> bool:
    return lab.status(memory=False).state == "ready"


def health(lab: Lab, service: str) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the body of a service's readiness probe."""
    answer = http.get(f"{lab.endpoints.services[service]}/healthz/ready", timeout=10)
    return answer.status_code, answer.json()


@pytest.mark.parametrize("how", short_sample(["stop", "faults.kill"], 1))
def test_connectors_resume_after_a_database_outage(shared: LabHarness, how: str) -> None:
    """After an outage of all databases that the connectors notice, their tasks resume automatically."""
    lab = shared.lab
    lab.reset()
    connect = shared.pids()["connect"]
    for service in SERVICES:
        attrgetter(how)(lab)(f"{service}-db")
    relay = Relay(lab.endpoints.connect)
    # A task that does not retry would be FAILED from here on, and stay so.
    noticed = ("terminat", "onnection refused", "EOFException")
    assert wait_until(lambda: any(word in lab.logs("connect", 400) for word in noticed), 20)
    for service in SERVICES:
        lab.start(f"{service}-db")
    assert wait_until(lambda: all(slot_is_read(url) for url in lab.endpoints.databases.values()), 60, interval=0.2)
    assert set(relay.task_states().values()) == {"RUNNING"}
    assert shared.pids()["connect"] == connect
    assert wait_until(lambda: is_ready(lab), 30, interval=0.2)
    assert wait_for_outcome(lab, place_order(lab)) == ("COMPLETED", None)
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []


def test_connect_starts_without_one_of_the_databases(shared: LabHarness) -> None:
    """`lab start connect` does not wait for a stopped database; its connector resumes when the database is back."""
    lab = shared.lab
    lab.reset()
    lab.stop("connect")
    lab.stop("order-db")
    lab.start("connect")
    assert lab.status(memory=False).complaints.keys() == {"order-db", "order"}
    lab.start("order-db")
    assert wait_until(lambda: slot_is_read(lab.endpoints.databases["order"]), 30)
    assert wait_for_outcome(lab, place_order(lab)) == ("COMPLETED", None)


def test_briefly_inactive_slot_is_not_reported(shared: LabHarness) -> None:
    """Debezium opens each slot twice at startup, and the lab reports no problem for the moment in between."""
    lab = shared.lab
    lab.reset()
    lab.stop("connect")
    order = place_order(lab)
    access_of(lab).backend().launch("connect")
    inventory = lab.endpoints.databases["inventory"]
    with psycopg.connect(inventory, autocommit=True) as connection:
        read = "SELECT active FROM pg_replication_slots WHERE slot_name = 'outbox'"
        assert wait_until(lambda: connection.execute(read).fetchone() == (True,), 90, interval=0.002)
        # On a busy machine this poll may miss that moment. The lab must report no problem then either.
        poll_until(lambda: connection.execute(read).fetchone() == (False,), 10, interval=0.002)
    relay = Relay(lab.endpoints.connect)

    def tasks() -> set[str]:
        with contextlib.suppress(httpx.HTTPError):  # its REST interface may not be ready yet
            return set(relay.task_states().values())
        return set()

    assert wait_until(lambda: tasks() == {"RUNNING"}, 60)
    assert not lab.status(memory=False).complaints
    assert wait_for_outcome(lab, order) == ("COMPLETED", None)


def test_orders_are_accepted_while_kafka_is_unavailable(shared: LabHarness) -> None:
    """Without the broker, each service is degraded but accepts orders, which continue when the broker is back."""
    lab = shared.lab
    lab.reset()
    lab.stop("kafka")
    for service in SERVICES:
        assert wait_until(lambda s=service: health(lab, s)[1]["status"] == "degraded", 20)  # type: ignore[misc]
        status, body = health(lab, service)
        assert status == 200
        assert body["checks"]["database"] == "ok"
        assert body["checks"]["broker"] != "ok"
    orders = [place_order(lab), place_order(lab, customer="broke-bob")]
    assert [read_order(lab, order)["status"] for order in orders] == ["PENDING", "PENDING"]
    lab.start("kafka")
    assert wait_for_outcome(lab, orders[0], 60) == ("COMPLETED", None)
    assert wait_for_outcome(lab, orders[1], 60) == ("CANCELLED", "insufficient_funds")
    assert wait_until(lambda: is_ready(lab), 30, interval=0.2)


@pytest.mark.parametrize("service", short_sample(SERVICES, 1))
def test_service_without_its_database_returns_503_and_recovers(shared: LabHarness, service: str) -> None:
    """A service without its database returns a 503 problem and recovers automatically; the others stay ready.

    Its readiness probe names the failed check.
    """
    lab = shared.lab
    paths = {
        "order": "/orders",
        "inventory": "/inventory/products",
        "payment": "/payments",
        "shipping": "/shipping/shipments",
    }
    url = lab.endpoints.client(service) + paths[service]
    pids = shared.pids()
    lab.stop(f"{service}-db")
    answer = http.get(url, timeout=10)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"]
    problem = answer.json()
    assert {"type", "title", "status", "detail"} <= set(problem)
    status, body = health(lab, service)
    assert (status, body["checks"]["broker"]) == (503, "ok")
    assert body["checks"]["database"] != "ok"
    # On a busy machine, one status may lack the answer of a service.
    assert wait_until(lambda: "database" in lab.status(memory=False).complaints.get(service, ""), 10)
    for other in set(SERVICES) - {service}:
        assert health(lab, other)[0] == 200
    lab.start(f"{service}-db")
    assert wait_until(lambda: health(lab, service)[0] == 200, 20)
    assert http.get(url, timeout=10).status_code == 200
    assert {name: pid for name, pid in shared.pids().items() if name in SERVICES} == {s: pids[s] for s in SERVICES}
    assert wait_until(lambda: is_ready(lab), 60, interval=0.2)


def test_compensation_completes_after_a_database_outage(shared: LabHarness) -> None:
    """If payment's database stops between capture and refund, no record is dead-lettered and the money is refunded."""
    lab = shared.lab
    lab.reset()
    lab.faults.on("shipping", "slow-handler", 5)
    try:
        order = place_order(lab, destination="tristan-da-cunha")
        # The capture's event has left payment's outbox, and shipping handles it.
        assert wait_until(lambda: read_order(lab, order)["status"] == "PAID", 20)
        assert ledger_effects(lab, order) == ["capture"]
        lab.stop("payment-db")
        waits = f"{lab.endpoints.services['payment']}/manage/consumer"
        assert wait_until(lambda: http.get(waits, timeout=5).json()["state"] == "waiting for the database", 30)
        assert wait_until(lambda: read_order(lab, order)["status"] == "CANCELLING", 20)
        lab.start("payment-db")
        assert wait_for_outcome(lab, order) == ("CANCELLED", "no_carrier")
        assert ledger_effects(lab, order) == ["capture", "refund"]
        with psycopg.connect(lab.endpoints.databases["payment"]) as connection:
            assert connection.execute("SELECT count(*), max(parking_id) FROM parked_records").fetchone() == (0, None)
        assert "attempt" not in lab.logs("payment", 200)
        assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []
    finally:
        lab.faults.off("shipping")


def test_event_is_redelivered_after_its_service_freezes(shared: LabHarness) -> None:
    """PostgreSQL ends its transaction, Kafka reassigns its partitions, and the event is redelivered."""
    lab = shared.lab
    lab.reset()
    lab.faults.on("payment", "slow-handler", 2)
    query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%inbox%'"

    def is_busy() -> bool:
        with psycopg.connect(lab.endpoints.databases["payment"]) as connection:
            return connection.execute(query).fetchone() == (1,)

    try:
        order = place_order(lab)
        assert wait_until(is_busy, 20)
        lab.faults.pause("payment")
        assert wait_until(lambda: not is_busy(), 20, interval=0.2)
        lab.faults.resume("payment")
        assert wait_for_outcome(lab, order)[0] in TERMINAL
        assert "attempt" not in lab.logs("payment", 200)
        assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []
    finally:
        lab.faults.off("payment")


def test_consumer_rejoins_a_group_that_does_not_respond(shared: LabHarness) -> None:
    """A consumer whose group does not respond reports that, rejoins, and continues when the group responds."""
    lab = shared.lab
    lab.reset()
    consumer = f"{lab.endpoints.services['shipping']}/manage/consumer"
    topics = ["order.events", "inventory.events", "payment.events"]
    http.request("POST", f"{consumer}/pause", timeout=10).raise_for_status()
    # A member that stops polling keeps its partitions; the group does not respond before max.poll.interval.ms.
    silent = Consumer({"bootstrap.servers": lab.endpoints.kafka, "group.id": "shipping"}, logger=silent_logger)
    try:
        silent.subscribe(topics)
        assert wait_until(lambda: silent.poll(0.1) is None and silent.assignment(), 20)
        http.request("POST", f"{consumer}/resume", timeout=10).raise_for_status()
        assert wait_until(lambda: http.get(consumer, timeout=5).json()["state"] == "joining the group", 10)
        assert wait_until(lambda: "rejoining it" in lab.logs("shipping", 20), 40, interval=0.2)

        def is_running() -> bool:
            silent.poll(0.1)  # now the group responds again
            return bool(http.get(consumer, timeout=5).json()["state"] == "running")

        assert wait_until(is_running, 40)
    finally:
        leave(silent)
    assert wait_for_outcome(lab, place_order(lab)) == ("COMPLETED", None)
    assert wait_until(lambda: http.get(consumer, timeout=5).json()["state"] == "running", 20)


def test_deadline_cancels_a_stalled_order(shared: LabHarness) -> None:
    """The deadline makes an order CANCELLING while inventory is down, and CANCELLED without effects when it is back."""
    lab = shared.lab
    lab.reset()
    lab.stop("inventory")
    lab.stop("order")
    shared.run_checked("start", "order", LAB_ORDER_DEADLINE_SECONDS="2")
    try:
        order = place_order(lab)
        assert wait_until(lambda: read_order(lab, order)["status"] == "CANCELLING", 20, interval=0.1)
        assert read_order(lab, order)["failure_reason"] == "deadline_exceeded"
        lab.start("inventory")
        assert wait_for_outcome(lab, order) == ("CANCELLED", "deadline_exceeded")
        assert ledger_effects(lab, order) == []
        assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []
    finally:
        lab.restart("order")


def test_status_reports_the_log_retained_for_debezium(shared: LabHarness) -> None:
    """While Connect is down, `lab status` reports how much log each database retains for it."""
    lab = shared.lab
    lab.reset()
    assert lab.status(memory=False).retained == {}
    lab.stop("connect")
    customer = Customer(lab, Customer(lab).orders[:20]).start()
    customer.wait()
    assert wait_until(lambda: "order-db" in lab.status(memory=False).retained, 15)
    kept = shared.status()["components"]["order-db"]["retained_wal_bytes"]
    assert 10_000 < kept < 512 * 1024 * 1024
    assert "MB of write-ahead log for Debezium" in " ".join(shared.run_checked("status").split())
    assert "MB of write-ahead log for Debezium" in repr(lab)
    lab.start("connect")
    customer.assert_all_ended_as_expected()
    assert wait_until(lambda: lab.status(memory=False).retained == {}, 20)


@pytest.mark.long
def test_log_retained_for_debezium_is_limited(shared: LabHarness) -> None:
    """Beyond the limit, PostgreSQL sacrifices the slot, not the disk; the lab reports this, and a reset repairs it."""
    lab = shared.lab
    lab.reset()
    lab.stop("connect")
    with psycopg.connect(lab.endpoints.databases["shipping"], autocommit=True) as connection:
        assert connection.execute("SHOW max_slot_wal_keep_size").fetchone() == ("512MB",)
        connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'")
        connection.execute("SELECT pg_reload_conf()")
        try:

            def is_lost() -> bool:
                connection.execute("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 8000000))")
                connection.execute("CHECKPOINT")
                return connection.execute("SELECT wal_status FROM pg_replication_slots").fetchone() == ("lost",)

            assert wait_until(is_lost, 60)
        finally:
            connection.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
            connection.execute("SELECT pg_reload_conf()")
    with pytest.raises(LabError, match=r"(?s)slot of shipping was invalidated.*lab reset"):
        lab.start("connect")
    assert lab.status(memory=False).state == "degraded"
    lab.reset()
    assert is_ready(lab)
    assert wait_for_outcome(lab, place_order(lab)) == ("COMPLETED", None)
