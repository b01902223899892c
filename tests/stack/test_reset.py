"""`lab reset` returns the lab to the start of the course, whatever its state."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import httpx
import psycopg
import pytest

from labstack import Lab, LabError
from labstack.clients import broker, consumer_groups, http
from labstack.scenarios.demo import run_demo
from labstack.waiting import poll_until, wait_until
from tests.stack.labs import LabHarness
from tests.stack.orders import TERMINAL, Customer, all_orders
from tests.suite.chance import short_sample

SERVICES = ("order", "inventory", "payment", "shipping")


def table_rows(lab: Lab) -> dict[str, list[str]]:
    """Return every row of every table, as text."""
    found = {}
    for service, url in lab.endpoints.databases.items():
        with psycopg.connect(url, connect_timeout=5) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            for (table,) in tables:
                rows = connection.execute(f'SELECT t::text FROM public."{table}" t'.encode()).fetchall()
                found[f"{service}.{table}"] = sorted(row for (row,) in rows)
    return found


def records(lab: Lab) -> list[broker.Record]:
    """Return every record of every topic of the services."""
    return broker.read_all(lab.endpoints.kafka, [f"{s}.{kind}" for s in SERVICES for kind in ("events", "dlq")])


def lag(lab: Lab) -> dict[tuple[str, str, int], int]:
    """Return the lag of each consumer group and partition in records, without those that have no lag."""
    kafka = lab.endpoints.kafka
    ends = broker.end_offsets(kafka, broker.partitions(kafka, [f"{s}.events" for s in SERVICES]))
    starts = broker.start_offsets(kafka, broker.partitions(kafka, [f"{s}.events" for s in SERVICES]))
    found = {}
    for group, reads in consumer_groups.assigned(kafka, SERVICES).items():
        committed = consumer_groups.committed_offsets(kafka, group)
        for place in reads & set(ends):
            behind = ends[place] - committed.get(place, starts[place])
            if behind:
                found[group, *place] = behind
    return found


def assert_initial_state(lab: Lab, initial: dict[str, list[str]]) -> None:
    assert table_rows(lab) == initial
    assert records(lab) == []
    assert lag(lab) == {}


def test_reset_leaves_no_earlier_data_or_records(shared: LabHarness) -> None:
    """A reset during orders empties tables, topics and lag; no old record arrives later, and no program restarts."""
    lab = shared.lab
    lab.reset()
    initial, pids = table_rows(lab), shared.pids()
    assert initial["inventory.products"]
    assert all(not rows for table, rows in initial.items() if table.split(".")[1] in ("orders", "outbox", "inbox"))
    # With shipping paused, some orders are in flight when the last one is placed, even on a slow host.
    http.request("POST", f"{lab.endpoints.services['shipping']}/manage/consumer/pause", timeout=10).raise_for_status()
    customer = Customer(lab).start()
    assert wait_until(lambda: len(customer.placed) == len(customer.orders), 60)
    assert len(customer.unfinished()) > 0, "some have to be in flight"
    lab.reset()
    assert_initial_state(lab, initial)
    # A record that is still in transit would arrive now.
    assert not poll_until(lambda: table_rows(lab) != initial or records(lab), 2)
    assert_initial_state(lab, initial)
    assert shared.pids() == pids
    after = Customer(lab, customer.orders[:10]).start()
    after.wait()
    after.assert_all_ended_as_expected()


@pytest.mark.parametrize("is_paused", [False, pytest.param(True, marks=pytest.mark.long)])
def test_broker_crash_after_a_reset_restores_no_record(shared: LabHarness, is_paused: bool) -> None:
    """Records that a reset has deleted stay deleted when the broker is killed, or paused and killed, right after it."""
    lab = shared.lab
    lab.reset()
    run_demo(lab.endpoints)
    assert records(lab)
    lab.reset()
    if is_paused:
        lab.faults.pause("kafka")
    lab.faults.kill("kafka")
    shared.run_checked("start", "kafka")
    assert records(lab) == []
    assert wait_until(lambda: lab.status(memory=False).state == "ready", 30, interval=0.1)


def test_reset_succeeds_despite_an_open_read_transaction(shared: LabHarness) -> None:
    """A transaction that reads the tables in another order delays a reset, but does not make it fail."""
    lab = shared.lab
    failed: list[BaseException] = []

    def reset() -> None:
        try:
            lab.reset()
        except BaseException as error:
            failed.append(error)

    url = lab.endpoints.databases["payment"]
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'TRUNCATE%'"
    with psycopg.connect(url) as reader, psycopg.connect(url, autocommit=True) as watcher:
        reader.execute("SELECT count(*) FROM outbox")
        resetting = threading.Thread(target=reset)
        resetting.start()
        assert wait_until(lambda: watcher.execute(waits).fetchone() == (1,), 20)
        # Both transactions now deadlock. PostgreSQL aborts either of them, and the reset completes in both cases.
        with contextlib.suppress(psycopg.errors.DeadlockDetected):
            reader.execute("SELECT count(*) FROM inbox")
        reader.rollback()
        resetting.join(60)
    assert not resetting.is_alive()
    assert failed == []
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []


def test_orders_placed_during_a_reset_are_removed_or_complete(shared: LabHarness) -> None:
    """An order placed during a reset is either removed completely or processed completely."""
    lab = shared.lab
    customer = Customer(lab).start()
    assert wait_until(lambda: len(customer.placed) >= 20, 30)
    lab.reset()
    customer.stop()
    known = set(all_orders(lab))
    assert known < set(customer.placed)
    assert wait_until(lambda: all(o["status"] in TERMINAL for o in all_orders(lab).values()), 30, interval=0.1)
    ends = {i: (o["status"], o["failure_reason"]) for i, o in all_orders(lab).items()}
    expected = {i: (customer.placed[i].expected_status, customer.placed[i].expected_reason or None) for i in known}
    assert ends == expected
    assert {record.key for record in records(lab)} == known
    url = lab.endpoints.databases["inventory"]
    with psycopg.connect(url, connect_timeout=5) as connection:
        rows = connection.execute("SELECT DISTINCT order_id::text FROM reservations").fetchall()
    assert {row[0] for row in rows} <= known
    assert wait_until(lambda: lag(lab) == {}, 5)


FAILURES: dict[str, Callable[[Lab], object]] = {
    "Connect stopped": lambda lab: lab.stop("connect"),
    "a database paused": lambda lab: lab.faults.pause("payment-db"),
    "a service killed": lambda lab: lab.faults.kill("inventory"),
    "the broker killed": lambda lab: lab.faults.kill("kafka"),
    "a paused consumer": lambda lab: _pause_consumer(lab),
    "a service that crashes after each commit": lambda lab: _crash_order_service(lab),
}


def _pause_consumer(lab: Lab) -> None:
    http.request("POST", f"{lab.endpoints.services['shipping']}/manage/consumer/pause", timeout=10).raise_for_status()


def _crash_order_service(lab: Lab) -> None:
    lab.faults.on("order", "dual-write", "crash-after-commit")
    line = {"sku": "rooibos", "quantity": 1}
    with contextlib.suppress(httpx.HTTPError):
        body = {"customer_id": "ada", "destination": "rome", "items": [line]}
        http.request("POST", f"{lab.endpoints.client('order')}/orders", json=body, timeout=10)
    with psycopg.connect(lab.endpoints.databases["order"], connect_timeout=5) as connection:
        connection.execute("UPDATE orders SET created_at = now() - interval '1 hour'")
    with contextlib.suppress(LabError):  # it cancels the late order within a second, and may crash before it is ready
        lab.start("order")


@pytest.mark.parametrize("broken", short_sample(FAILURES, 1))
def test_reset_restores_a_broken_component(shared: LabHarness, broken: str) -> None:
    """A reset restores a broken component first, and then the data."""
    lab = shared.lab
    lab.reset()
    initial = table_rows(lab)
    FAILURES[broken](lab)
    shared.run_checked("reset")
    assert lab.status(memory=False).complaints == {}
    assert lab.faults.active == {}
    assert_initial_state(lab, initial)
    customer = Customer(lab, Customer(lab).orders[:10]).start()
    customer.wait()
    customer.assert_all_ended_as_expected()


def test_reset_restores_publication_slot_and_settings(shared: LabHarness) -> None:
    """A reset restores exactly the services' publication, slot and settings, and orders then complete."""
    lab = shared.lab
    lab.up()
    with psycopg.connect(lab.endpoints.databases["payment"], autocommit=True) as payment:
        payment.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'")
        payment.execute("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')")
        payment.execute("DROP PUBLICATION outbox")
        payment.execute("CREATE PUBLICATION everything FOR TABLE inbox, outbox")
    with psycopg.connect(lab.endpoints.databases["shipping"], autocommit=True) as shipping:
        shipping.execute("ALTER PUBLICATION outbox SET (publish = 'update')")
    lab.reset()
    with psycopg.connect(lab.endpoints.databases["payment"], autocommit=True) as payment:
        assert payment.execute("SHOW max_slot_wal_keep_size").fetchone() == ("512MB",)
        assert payment.execute("SELECT slot_name FROM pg_replication_slots").fetchall() == [("outbox",)]
        assert payment.execute("SELECT pubname FROM pg_publication").fetchall() == [("outbox",)]
    lab.restart("payment")
    assert len(run_demo(lab.endpoints)) > 0
    assert lab.status(memory=False).state == "ready"


def test_reset_terminates_an_idle_transaction(shared: LabHarness) -> None:
    """A reset terminates an idle transaction that holds a lock."""
    lab = shared.lab
    lab.up()
    with psycopg.connect(lab.endpoints.databases["order"]) as left_open:
        left_open.execute("LOCK TABLE outbox IN ROW EXCLUSIVE MODE")
        lab.reset()
        with pytest.raises(psycopg.OperationalError):
            left_open.execute("SELECT 1")
    assert lab.status(memory=False).state == "ready"
