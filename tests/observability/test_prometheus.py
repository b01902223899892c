"""Prometheus in a running lab: its targets, its data, and orders that do not depend on it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from labkit import Session
from labkit.errors import QueryFailed
from labkit.sources.prometheus import NoPrometheus
from labkit.waiting import wait_until
from labstack import Lab
from labstack.backends.processes.java import jars
from labstack.clients import http
from labstack.lab import access_of
from tests.observability.traffic import assert_orders_become_terminal, assert_shop_completes_orders
from tests.suite.chance import short_sample

pytestmark = pytest.mark.needs("prometheus")
JOBS = {"services", "gateway", "relay", "kafka", "connect", "prometheus"}


def test_every_target_is_up_after_a_startup(session: Session) -> None:
    """Within seconds of a startup every target is up, each service under its own name and version."""
    look = session.look
    wait_until(lambda: set(look.metrics.targets().state) == {"up"}, 15)
    targets = look.metrics.targets()
    assert set(targets.job) == JOBS
    services = targets[targets.job == "services"]
    assert dict(zip(services.service, services.version, strict=True)) == dict.fromkeys(
        session.lab.endpoints.services, "v1"
    )


def test_web_pages_neither_stop_prometheus_nor_read_it(session: Session) -> None:
    """Prometheus has no lifecycle requests, and lets only pages of this machine read its answers."""
    url = session.lab.endpoints.prometheus
    for path in ("/-/quit", "/-/reload"):
        assert http.request("POST", f"{url}{path}").status_code == 403
    for origin, is_read in (("http://evil.example", False), ("http://localhost:8888", True)):
        headers = http.get(f"{url}/api/v1/query?query=up", headers={"Origin": origin}).headers
        assert ("Access-Control-Allow-Origin" in headers) == is_read


@pytest.mark.parametrize("component", short_sample(["kafka", "connect"], 1))
def test_restarted_java_component_exposes_its_metrics(session: Session, component: str) -> None:
    """A killed broker or worker exposes its metrics again after a start."""
    lab, _, look, _ = session

    def state() -> str:
        targets = look.metrics.targets()
        return " ".join(targets[targets.job == component].state)

    lab.faults.kill(component)
    wait_until(lambda: state() == "down", 15)
    lab.start(component)
    wait_until(lambda: state() == "up", 15)


@pytest.mark.parametrize("component", [pytest.param("kafka", marks=pytest.mark.long), "connect"])
def test_killed_java_process_leaves_no_attach_socket(lab: Lab, component: str) -> None:
    """The attach socket of a killed Java process is removed, because it would block another user's process."""

    def socket() -> Path:
        return Path(f"/tmp/.java_pid{lab.status(memory=False).components[component].pid}")

    killed_from_outside = socket()
    assert killed_from_outside.exists()
    os.kill(int(killed_from_outside.name.removeprefix(".java_pid")), signal.SIGKILL)
    wait_until(lambda: lab.status(memory=False).components[component].state == "failed", 5)
    lab.start(component)
    assert not killed_from_outside.exists()
    killed_by_the_lab = socket()
    assert killed_by_the_lab.exists()
    lab.faults.kill(component)
    assert not killed_by_the_lab.exists()
    lab.start(component)


def test_rejected_java_agent_is_reported(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A broker without metrics still works; the startup reports it, and prints nothing to stderr."""
    notes: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(jars, "agent", lambda cache: Path(__file__))  # not a valid Java agent
        lab.faults.kill("kafka")
        lab.up(lambda progress: notes.extend(progress.notes[len(notes) :]))
    notes = [note for note in notes if not note.startswith("another lab is preparing")]  # which other tests start
    assert [note.partition(":")[0] for note in notes] == ["kafka exposes no metrics"]
    assert lab.status(memory=False).state == "ready"
    assert capfd.readouterr().err == ""
    lab.faults.kill("kafka")
    lab.up()


def test_second_version_is_scraped_while_it_runs(session: Session) -> None:
    """A started version is scraped within seconds, and dropped when it stops, which raises no alert."""
    lab, _, look, _ = session

    def versions() -> set[str]:
        targets = look.metrics.targets()
        return set(targets[(targets.service == "order") & (targets.state == "up")].version)

    lab.start("order-v2")
    wait_until(lambda: versions() == {"v1", "v2"}, 15)
    lab.stop("order-v2")
    wait_until(lambda: versions() == {"v1"}, 15)
    assert "order-v2" not in lab.status(memory=False).components


def test_counters_match_the_orders(reset_session: Session) -> None:
    """The counters of orders, outcomes, reasons, compensations and events match the shop's orders."""
    _, shop, look, _ = reset_session
    look.metrics.now()
    names = ['saga_orders_total{outcome="completed"}', 'saga_orders_total{reason="unknown_customer"}']
    names += ["saga_compensations_total", 'outbox_events_total{type="OrderCreated"}', "saga_duration_seconds_count"]
    before = [look.metrics.number(f"sum({name}) or vector(0)") for name in names]
    orders = [shop.place_order("ada", "lisbon", {"earl-grey": 1}) for _ in range(3)]
    orders.append(shop.place_order("nobody", "lisbon", {"earl-grey": 1}))
    assert [shop.follow(order).status for order in orders] == ["COMPLETED"] * 3 + ["CANCELLED"]
    look.wait_for_rest(orders)
    look.metrics.now()
    after = [look.metrics.number(f"sum({name}) or vector(0)") for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [3, 1, 1, 4, 4]


def test_exemplars_lead_to_traces(session: Session) -> None:
    """A histogram has exemplars, and each has the ID of an order's trace."""
    shop, look = session.shop, session.look
    order = shop.place_order("ada", "lisbon", {"earl-grey": 1})
    assert shop.follow(order).status == "COMPLETED"
    look.metrics.now()
    found = look.metrics.exemplars("saga_duration_seconds_bucket", seconds=30)
    assert len(found)
    assert set(found.trace_id.str.len()) == {32}


def test_invalid_promql_shows_the_message_of_prometheus(session: Session) -> None:
    """The error for invalid PromQL has Prometheus's own message, with the position."""
    with pytest.raises(QueryFailed, match=r"Prometheus says: .*1:10: parse error"):
        session.look.metrics.query("rate(foo[30")
    with pytest.raises(QueryFailed, match="a range of samples"):
        session.look.metrics.query("up[5s]")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ('"hello"', "hello"),
        ("1", 1.0),
        ("histogram_quantile(0.9, vector(1))", None),
        ('label_replace(vector(1), "value", "x", "", "")', 1.0),
        ('vector(1) or label_replace(vector(2), "odd", "x", "", "")', 1.0),
    ],
)
def test_every_result_of_promql_is_a_table(session: Session, expression: str, value: object) -> None:
    """A text, a number, no series, and a label that has the name of a column are tables, whatever they contain."""
    table = session.look.metrics.query(expression)
    assert list(table.columns)[-1] == "value"
    assert value in set(table["value"]) or (value is None and table.empty)
    assert "value_" in table.columns or "label" not in expression or "odd" in table.columns


@pytest.mark.parametrize("expression", ["up[1m]", '"hello"', "0/0", "no_such_metric", "(", ""])
def test_undrawable_results_are_rejected_with_a_next_step(session: Session, expression: str) -> None:
    """A range, a text, NaN, no series and invalid PromQL are rejected by a chart, a number and exemplars."""
    metrics = session.look.metrics
    for call in (metrics.chart, metrics.number, metrics.exemplars):
        with contextlib.suppress(QueryFailed):
            assert call(expression) is not None
    with pytest.raises(QueryFailed) as raised:
        metrics.chart(expression)
    assert raised.value.next_step


def test_lag_grows_while_the_consumer_is_paused(session: Session) -> None:
    """A paused consumer's lag grows with each record, and is 0 again when the consumer has caught up."""
    lab, shop, look, _ = session
    lag = "sum(service:consumer_lag_records:sum{service='payment'}) or vector(-1)"  # a slow scrape omits it
    wait_until(lambda: look.metrics.number(lag) == 0, 15)
    consumer = f"{lab.endpoints.services['payment']}/manage/consumer"
    http.request("POST", f"{consumer}/pause", timeout=10).raise_for_status()
    try:
        orders = [shop.place_order("ada", "lisbon", {"earl-grey": 1}) for _ in range(8)]
        wait_until(lambda: look.metrics.number(lag) >= 8, 15)
    finally:
        http.request("POST", f"{consumer}/resume", timeout=10).raise_for_status()
    assert {shop.follow(order).status for order in orders} == {"COMPLETED"}
    wait_until(lambda: look.metrics.number(lag) == 0, 15)


def test_outbox_rows_wait_while_the_relay_is_stopped(session: Session) -> None:
    """While Connect is stopped, rows wait and age, and no slot is active; afterwards no row waits."""
    lab, shop, look, _ = session
    unconfirmed = """
        SELECT count(*) AS n FROM outbox, pg_replication_slots
        WHERE slot_name = 'outbox' AND wal_position > confirmed_flush_lsn"""
    wait_until(lambda: look.db.rows("order", unconfirmed).n.item() == 0, 30)  # the relay's heartbeat confirms the rest
    lab.stop("connect")
    orders = [shop.place_order("ada", "lisbon", {"earl-grey": 1}) for _ in range(3)]
    wait_until(lambda: look.metrics.number('outbox_waiting_rows{service="order"}') == 3, 15)
    wait_until(lambda: look.metrics.number('outbox_waiting_age_seconds{service="order"}') > 1, 15)
    wait_until(lambda: look.metrics.number("sum(postgres_replication_slot_active)") == 0, 15)
    lab.start("connect")
    assert_orders_become_terminal(shop, orders)
    wait_until(lambda: look.metrics.number("sum(outbox_waiting_rows)") == 0, 15)
    wait_until(lambda: look.metrics.number("sum(postgres_replication_slot_active)") == 4, 15)


@pytest.mark.parametrize("verb", short_sample(["kill", "pause"], 1))
def test_orders_complete_without_prometheus(session: Session, verb: str) -> None:
    """With Prometheus killed or paused, orders complete as usual; the lab is ready, and reports the problem."""
    lab, shop, look, _ = session
    getattr(lab.faults, verb)("prometheus")
    assert_shop_completes_orders(shop)
    status = lab.status(memory=False)
    assert status.state == "ready"
    assert "prometheus" in status.complaints
    with pytest.raises(NoPrometheus, match="doesn't answer"):
        look.metrics.query("up")
    lab.up()
    wait_until(lambda: set(look.metrics.targets().state) == {"up"}, 20)


def test_query_without_prometheus_names_the_install_command(session: Session) -> None:
    """A query without Prometheus is an error with the command that installs it."""
    from labkit.sources.prometheus import PrometheusClient

    with pytest.raises(NoPrometheus, match="This lab has no Prometheus") as raised:
        PrometheusClient("").query("up")
    assert "lab install prometheus" in raised.value.next_step


def test_gauges_of_an_unavailable_database_are_omitted(session: Session) -> None:
    """A service whose database is unavailable returns its counters at once, and omits gauges that it can't know."""
    lab, _, look, _ = session
    lab.faults.pause("payment-db")
    try:

        def is_omitted() -> bool:
            look.metrics.now()
            return look.metrics.query('parked_records_current{service="payment"}').empty

        wait_until(is_omitted, 20)
        begin = time.monotonic()
        assert look.metrics.value("payment", "events_total") >= 0
        assert time.monotonic() - begin < 2
    finally:
        lab.faults.resume("payment-db")
    wait_until(lambda: not look.metrics.query('parked_records_current{service="payment"}').empty, 15)


@pytest.mark.long
def test_observability_off_starts_no_observers(lab: Lab) -> None:
    """A lab that is started with LAB_OBSERVABILITY=off has no observers."""
    from tests.stack.labs import LabHarness

    harness = LabHarness("dark", environment={"LAB_OBSERVABILITY": "off"})
    try:
        harness.run_checked("up")
        assert access_of(harness.lab).backend().observers() == []
        assert not harness.lab.endpoints.prometheus
    finally:
        harness.close()
