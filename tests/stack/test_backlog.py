"""A backlog, a hanging transaction or an interrupted reset does not stop the lab."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaException, Producer

from labservices.contract import events_topic
from labstack import Lab
from labstack.backends.processes import process
from labstack.backends.processes.backend import LocalBackend
from labstack.clients import broker, consumer_groups, http, probe_event, transactions
from labstack.config.paths import LabPaths
from labstack.errors import LabError, RelayFailed, StorageError
from labstack.lab import access_of
from labstack.lifecycle.reset import client_errors_translated
from labstack.state import StateStore
from labstack.waiting import wait_until
from tests.stack.labs import LabHarness
from tests.stack.one_order import place_order, wait_for_outcome
from tests.stack.orders import Customer
from tests.suite.chance import short_sample

SERVICES = ("order", "inventory", "payment", "shipping")
TOPICS = [events_topic(service) for service in SERVICES]


def lag(lab: Lab) -> int:
    """Return how many records all services together are behind."""
    others = {service: [topic for topic in TOPICS if topic != events_topic(service)] for service in SERVICES}
    return sum(
        sum(consumer_groups.lag(lab.endpoints.kafka, group, topics).values()) for group, topics in others.items()
    )


def open_transaction(lab: Lab, name: str, timeout_ms: int = 60_000) -> Producer:
    """Write one record to each partition of the services' topics, in a transaction that stays open."""
    producer = Producer(
        {
            "bootstrap.servers": lab.endpoints.kafka,
            "transactional.id": name,
            "transaction.timeout.ms": timeout_ms,
        },
        logger=broker.silent_logger,
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    for topic in TOPICS:
        for partition in range(4):
            producer.produce(topic, b"{}", key=b"none", partition=partition, headers={"ce_type": b"", "ce_id": b"1"})
    assert producer.flush(10) == 0
    return producer


@contextmanager
def slow_inventory(lab: Lab, orders: int) -> Iterator[None]:
    """Let inventory take half a second for each record, and place so many orders while it is down."""
    lab.reset()
    lab.faults.on("inventory", "slow-handler", 0.5)
    lab.stop("inventory")
    try:
        customer = Customer(lab, Customer(lab).orders[:orders]).start()
        customer.wait()
        assert wait_until(lambda: lag(lab) >= orders, 30)
        yield
    finally:
        lab.faults.off("inventory")


def test_start_is_ready_with_a_backlog_and_a_reset_drops_it(shared: LabHarness) -> None:
    """A service that is behind does not fail a start, which reports how far; a reset does not wait for the backlog."""
    lab, before = shared.lab, shared.pids()
    with slow_inventory(lab, 60):  # 30 s of work
        done = shared.run("up")
        assert done.returncode == 0, done.stderr
        assert "records behind and is catching up" in done.stderr
        assert lag(lab) > 0
        assert {name: pid for name, pid in shared.pids().items() if name != "inventory"}.items() <= before.items()
        began = time.monotonic()
        lab.reset()
        assert time.monotonic() - began < 25
    assert wait_until(lambda: lag(lab) == 0, 20)
    assert lab.status(memory=False).state == "ready"


def test_stalled_consumer_is_named_with_its_lag(shared: LabHarness) -> None:
    """A wait for a group that handles nothing fails with the name of the group and the number of records."""
    lab = shared.lab
    kafka = lab.endpoints.kafka
    place_order(lab)
    ends = broker.end_offsets(kafka, broker.partitions(kafka, ["order.events"]))
    sent = probe_event.SentProbeEvents(ends, seen={place: end + 9 for place, end in ends.items()})
    stalled = Consumer({"bootstrap.servers": kafka, "group.id": "stalled"}, logger=broker.silent_logger)
    try:
        stalled.subscribe(["order.events"])
        assert wait_until(lambda: stalled.poll(0.1) is None and stalled.assignment(), 20)
        with pytest.raises(RelayFailed, match=r"stalled is \d\d+ records behind"):
            probe_event.wait_for_services(kafka, sent, ["stalled"], 1)
    finally:
        stalled.close()
        consumer_groups.delete_group(kafka, "stalled")


def orders_in_database(lab: Lab) -> int:
    with psycopg.connect(lab.endpoints.databases["order"], connect_timeout=5) as connection:
        row = connection.execute("SELECT count(*) FROM orders").fetchone()
    return row[0] if row else 0


def has_begun(harness: LabHarness) -> bool:
    return bool(harness.state()["unfinished_reset"])


def has_paused_consumers(harness: LabHarness) -> bool:
    return "consumer paused" in harness.lab.status(memory=False).complaints.values()


def has_restored_a_database(harness: LabHarness) -> bool:
    return orders_in_database(harness.lab) == 0


MOMENTS = {"begun": has_begun, "paused": has_paused_consumers, "restored": has_restored_a_database}


@pytest.mark.parametrize("moment", short_sample(MOMENTS, 1))
def test_start_completes_an_interrupted_reset(shared: LabHarness, moment: str) -> None:
    """If `lab reset` is killed, the status says so and names the paused consumers; the next start completes it."""
    lab, is_reached = shared.lab, MOMENTS[moment]
    lab.reset()
    assert wait_for_outcome(lab, place_order(lab))[0] == "COMPLETED"
    reset = shared.start("reset")
    assert wait_until(lambda: is_reached(shared), 30, interval=0.005)
    os.kill(reset.pid, signal.SIGKILL)
    reset.wait()
    status = lab.status(memory=False)
    assert status.state == "degraded"
    assert "reset was interrupted" in status.complaints["lab"]
    assert "reset was interrupted" in shared.run_checked("status")
    assert "completing it" in shared.run("up").stderr
    assert orders_in_database(lab) == 0
    assert lab.status(memory=False).state == "ready"
    assert wait_for_outcome(lab, place_order(lab))[0] == "COMPLETED"
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []


def test_paused_consumer_is_reported_and_resumed_by_a_start(shared: LabHarness) -> None:
    """The status of a lab with a paused consumer is degraded and says so; a start resumes the consumer."""
    lab = shared.lab
    http.request("POST", f"{lab.endpoints.services['payment']}/manage/consumer/pause", timeout=10).raise_for_status()
    assert wait_until(lambda: lab.status(memory=False).complaints == {"payment": "consumer paused"}, 10)
    assert lab.status(memory=False).state == "degraded"
    lab.up()
    assert lab.status(memory=False).state == "ready"


@pytest.mark.parametrize("end", short_sample(["commit", "abort"], 1))
def test_ended_transaction_counts_as_no_lag(shared: LabHarness, end: str) -> None:
    """After a transaction that wrote to every partition, readers reach the end at once, and no consumer lags."""
    lab = shared.lab
    lab.reset()
    getattr(open_transaction(lab, f"{end}ed"), f"{end}_transaction")(10)
    began = time.monotonic()
    broker.read_all(lab.endpoints.kafka, TOPICS)
    assert time.monotonic() - began < 5
    assert wait_until(lambda: lag(lab) == 0, 10)
    assert lab.status(memory=False).state == "ready"
    assert wait_for_outcome(lab, place_order(lab)) == ("COMPLETED", None)
    assert [verdict.name for verdict in lab.check(wait_for_rest=60) if verdict.holds is None] == []
    lab.reset()
    assert broker.read_all(lab.endpoints.kafka, TOPICS) == []


def up(harness: LabHarness) -> subprocess.CompletedProcess[str]:
    return harness.run("up")


def reset(harness: LabHarness) -> subprocess.CompletedProcess[str]:
    return harness.run("reset")


@pytest.mark.parametrize("repair", short_sample([up, reset], 1), ids=["up", "reset"])
def test_hanging_transaction_is_named_and_aborted(
    shared: LabHarness, repair: Callable[[LabHarness], subprocess.CompletedProcess[str]]
) -> None:
    """The status names a transaction that stays open, readers don't wait for it, and a start or a reset aborts it."""
    lab = shared.lab
    kafka = lab.endpoints.kafka
    producer = open_transaction(lab, "forgotten")
    assert broker.read_all(kafka, TOPICS) is not None
    (found,) = transactions.find_open(kafka, TOPICS)
    assert (found.name, found.places) == ("forgotten", {(topic, p) for topic in TOPICS for p in range(4)})
    assert wait_until(lambda: "'forgotten'" in lab.status(memory=False).complaints.get("kafka", ""), 20)
    done = repair(shared)
    assert done.returncode == 0, done.stderr
    assert "aborts the transaction 'forgotten'" in done.stderr
    assert transactions.find_open(kafka, TOPICS) == []
    with pytest.raises(KafkaException, match="fenced"):
        producer.commit_transaction(10)
    assert wait_until(lambda: lab.status(memory=False).state == "ready", 20)
    assert wait_for_outcome(lab, place_order(lab)) == ("COMPLETED", None)


@pytest.mark.long
def test_demo_survives_a_hanging_transaction(shared: LabHarness) -> None:
    """The orders of `lab demo` wait for an open transaction, until the broker aborts it after a minute."""
    open_transaction(shared.lab, "left-open")
    assert json.loads(shared.run_checked("demo", "--json"))["status"] == "COMPLETED"


def test_transaction_timeout_is_limited(shared: LabHarness) -> None:
    """The broker rejects a producer whose transactions could stay open for more than a minute."""
    with pytest.raises(KafkaException, match="INVALID_TRANSACTION_TIMEOUT"):
        open_transaction(shared.lab, "patient", timeout_ms=600_000)


def test_status_leaves_out_slow_figures(shared: LabHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A status takes about two seconds at most, and says which figures it leaves out."""
    never = threading.Event()
    monkeypatch.setattr("labstack.lifecycle.status._memory", lambda _, name: never.wait(20))
    began = time.monotonic()
    status = shared.lab.status()
    assert time.monotonic() - began < 5
    never.set()
    assert "memory of kafka" in status.left_out
    assert status.state == "ready"
    assert "memory of kafka" in status.to_json()["left_out"]  # type: ignore[operator]


def test_full_disk_in_a_command_is_an_error_of_the_lab(tmp_path: Path) -> None:
    """If a command that changes the lab can't write a file, its error names the file and the next step."""
    store = StateStore(LabPaths(tmp_path / "state", tmp_path / "cache"))
    message = r"some/file can't be written: No space left.*\nNext step: free some space"
    with pytest.raises(StorageError, match=message), store.exclusive():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some/file")


@pytest.mark.skipif(os.environ.get("LAB_MODE") == "containers", reason="the engine knows its containers")
def test_component_that_cannot_be_recorded_is_ended(shared: LabHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a full disk keeps a start from recording its process, the process ends, and the next start succeeds."""
    lab = shared.lab
    lab.stop("connect-watcher")
    backend = access_of(lab).backend()
    assert isinstance(backend, LocalBackend)

    def refuse(_: object) -> None:
        raise StorageError("The lab can't write its state.", next_step="free some space")

    monkeypatch.setattr(backend.store, "write", refuse)
    with pytest.raises(StorageError):
        backend.launch("connect-watcher")
    assert process.lab_processes(backend.state.lab_id, "connect-watcher") == []
    monkeypatch.undo()
    lab.start("connect-watcher")
    assert lab.status(memory=False).state == "ready"


def test_silent_component_is_an_error_of_the_lab() -> None:
    """If a component does not answer a start or a reset, the error names the cause and the next step."""
    message = r"The start failed.*Connection refused.*\nNext step: "
    with pytest.raises(LabError, match=message), client_errors_translated("The start"):
        http.get("http://127.0.0.1:1")
