"""`lab reset` returns the lab to the start of the course, whatever its state."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import httpx
import psycopg
import pytest

from labstack import Lab, LabError
from labstack.clients import broker
from labstack.waiting import wait_until
from tests.stack.labs import Grounds
from tests.stack.orders import TERMINAL, Customer, all_orders
from tests.suite.chance import short_sample

SERVICES = ("order", "inventory", "payment", "shipping")


def contents(lab: Lab) -> dict[str, list[str]]:
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
    for group, reads in broker.assigned(kafka, SERVICES).items():
        committed = broker.committed_offsets(kafka, group)
        for place in reads & set(ends):
            behind = ends[place] - committed.get(place, starts[place])
            if behind:
                found[group, *place] = behind
    return found


def assert_as_at_the_start(lab: Lab, opening: dict[str, list[str]]) -> None:
    assert contents(lab) == opening
    assert records(lab) == []
    assert lag(lab) == {}


def test_nothing_of_before_comes_after(shared: Grounds) -> None:
    """A reset during orders empties tables, topics and lag; no old record arrives later, and no program restarts."""
    lab = shared.lab
    lab.reset()
    opening, pids = contents(lab), shared.pids()
    assert opening["inventory.products"]
    assert all(not rows for table, rows in opening.items() if table.split(".")[1] in ("orders", "outbox", "inbox"))
    # With shipping paused, some orders are in flight when the last one is placed, even on a slow host.
    httpx.post(f"{lab.endpoints.services['shipping']}/manage/consumer/pause", timeout=10).raise_for_status()
    customer = Customer(lab).begin()
    assert wait_until(lambda: len(customer.placed) == len(customer.orders), 60)
    assert len(customer.unfinished()) > 0, "some have to be in flight"
    lab.reset()
    assert_as_at_the_start(lab, opening)
    # A record that is still in transit would arrive now.
    assert not wait_until(lambda: contents(lab) != opening or records(lab), 2)
    assert_as_at_the_start(lab, opening)
    assert shared.pids() == pids
    after = Customer(lab, customer.orders[:10]).begin()
    after.wait()
    after.assert_all_ended_as_expected()


def test_a_reader_does_not_hold_a_reset_up(shared: Grounds) -> None:
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
    assert all(verdict.holds for verdict in lab.check(wait_for_rest=20))


def test_orders_placed_meanwhile_are_gone_or_whole(shared: Grounds) -> None:
    """An order placed during a reset is either removed completely or processed completely."""
    lab = shared.lab
    customer = Customer(lab).begin()
    assert wait_until(lambda: len(customer.placed) >= 20, 30)
    lab.reset()
    customer.go()
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


BREAKS: dict[str, Callable[[Lab], object]] = {
    "Connect stopped": lambda lab: lab.stop("connect"),
    "a database paused": lambda lab: lab.pause("payment-db"),
    "a service killed": lambda lab: lab.kill("inventory"),
    "the broker killed": lambda lab: lab.kill("kafka"),
    "a consumer on hold": lambda lab: _hold(lab),
    "a service that crashes whenever it says something": lambda lab: _make_it_crash(lab),
}


def _hold(lab: Lab) -> None:
    import httpx

    httpx.post(f"{lab.endpoints.services['shipping']}/manage/consumer/pause", timeout=10).raise_for_status()


def _make_it_crash(lab: Lab) -> None:
    import httpx

    lab.switch_on("order", "dual-write", "crash-after-commit")
    line = {"sku": "rooibos", "quantity": 1}
    with contextlib.suppress(httpx.HTTPError):
        body = {"customer_id": "ada", "destination": "rome", "items": [line]}
        httpx.post(f"{lab.endpoints.client('order')}/orders", json=body, timeout=10)
    with psycopg.connect(lab.endpoints.databases["order"], connect_timeout=5) as connection:
        connection.execute("UPDATE orders SET created_at = now() - interval '1 hour'")
    with contextlib.suppress(LabError):  # it cancels the late order within a second, and may crash before it is ready
        lab.start("order")


@pytest.mark.parametrize("broken", short_sample(BREAKS, 1))
def test_a_reset_heals(shared: Grounds, broken: str) -> None:
    """A reset restores a broken component first, and then the data."""
    lab = shared.lab
    lab.reset()
    opening = contents(lab)
    BREAKS[broken](lab)
    shared.must("reset")
    assert lab.status(memory=False).complaints == {}
    assert lab.switches == {}
    assert_as_at_the_start(lab, opening)
    customer = Customer(lab, Customer(lab).orders[:10]).begin()
    customer.wait()
    customer.assert_all_ended_as_expected()


def test_what_debezium_reads_through_is_put_back(shared: Grounds) -> None:
    """A reset restores exactly the services' publication, slot and settings, and orders then complete."""
    lab = shared.lab
    lab.up()
    with psycopg.connect(lab.endpoints.databases["payment"], autocommit=True) as payment:
        payment.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'")
        payment.execute("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')")
        payment.execute("DROP PUBLICATION outbox")
        payment.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    with psycopg.connect(lab.endpoints.databases["shipping"], autocommit=True) as shipping:
        shipping.execute("ALTER PUBLICATION outbox SET (publish = 'update')")
    lab.reset()
    with psycopg.connect(lab.endpoints.databases["payment"], autocommit=True) as payment:
        assert payment.execute("SHOW max_slot_wal_keep_size").fetchone() == ("512MB",)
        assert payment.execute("SELECT slot_name FROM pg_replication_slots").fetchall() == [("outbox",)]
        assert payment.execute("SELECT pubname FROM pg_publication").fetchall() == [("outbox",)]
    lab.restart("payment")
    assert len(lab.demo()) > 0
    assert lab.status(memory=False).state == "ready"


def test_a_transaction_that_was_left_open_does_not_stop_a_reset(shared: Grounds) -> None:
    """A reset terminates an idle transaction that holds a lock."""
    lab = shared.lab
    lab.up()
    with psycopg.connect(lab.endpoints.databases["order"]) as left_open:
        left_open.execute("LOCK TABLE outbox IN ROW EXCLUSIVE MODE")
        lab.reset()
        with pytest.raises(psycopg.OperationalError):
            left_open.execute("SELECT 1")
    assert lab.status(memory=False).state == "ready"
