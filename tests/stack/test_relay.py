"""The relay after the loss of its slot, publication or position, and the records that it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psycopg
import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker
from prometheus_client.parser import text_string_to_metric_families

from labstack import Lab, LabError
from labstack.clients import broker, http, probe_event
from labstack.clients.database_server import DatabaseServer
from labstack.clients.relay import SHORT_PAUSE, connector_config
from labstack.clients.replication import confirmed_position, end_of_log
from labstack.config.paths import LabPaths
from labstack.lab import access_of
from labstack.scenarios.demo import run_demo
from labstack.waiting import wait_until
from tests.stack.labs import ROOT, LabHarness
from tests.stack.one_order import place_order, read_order, wait_for_outcome

ASYNCAPI = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))


def drop_slot(harness: LabHarness, service: str) -> None:
    """Drop a service's replication slot while Connect is down."""
    harness.lab.stop("connect")
    with psycopg.connect(harness.lab.endpoints.databases[service], autocommit=True) as connection:
        free = "SELECT count(*) FROM pg_replication_slots WHERE active"
        assert wait_until(lambda: connection.execute(free).fetchone() == (0,), 15)
        connection.execute("SELECT pg_drop_replication_slot('outbox')")


def set_position_beyond_the_log(harness: LabHarness, service: str) -> None:
    """Set the stored position of a service's connector beyond the end of its database's log.

    Wait first until the slot has confirmed all earlier events. Otherwise the connector relays them again when it
    returns to the slot's position, even after a reset.
    """
    url = harness.lab.endpoints.databases[service]
    end = end_of_log(url)
    assert end
    assert wait_until(lambda: (confirmed_position(url) or 0) >= end, 15)  # a heartbeat every 5 s confirms
    connector = f"{harness.lab.endpoints.connect}/connectors/{service}-outbox"
    http.request("PUT", f"{connector}/stop").raise_for_status()
    (stored,) = http.get(f"{connector}/offsets").json()["offsets"]
    far = {**stored["offset"], "lsn": 2**40, "lsn_proc": 2**40, "lsn_commit": 2**40}
    body = {"offsets": [{"partition": stored["partition"], "offset": far}]}
    assert wait_until(
        lambda: http.request("PATCH", f"{connector}/offsets", json=body, timeout=20).status_code == 200, 20
    )
    http.request("PUT", f"{connector}/resume").raise_for_status()


def restart_count(harness: LabHarness, service: str) -> float:
    """Return how often the watcher has restarted a service's connector."""
    metrics = http.get(f"{harness.lab.endpoints.watcher}/metrics").text
    (family,) = [f for f in text_string_to_metric_families(metrics) if f.name == "connect_watcher_restarts"]
    counted = {s.labels["connector"]: s.value for s in family.samples if s.name.endswith("_total")}
    return counted.get(f"{service}-outbox", 0)


def test_lost_slot_is_reported_and_repaired_by_reset(shared: LabHarness) -> None:
    """`start` and `status` report a lost slot, the watcher leaves the connector failed, and `reset` repairs the relay.

    A restart of the connector would hide the loss.
    """
    before = restart_count(shared, "payment")
    drop_slot(shared, "payment")
    with pytest.raises(LabError, match="payment"):
        shared.lab.start("connect")
    message = "payment-outbox has failed and is not restarted, because its replication slot is missing"
    assert wait_until(lambda: message in shared.lab.logs("connect-watcher"), 20)
    assert restart_count(shared, "payment") == before
    assert shared.lab.status(memory=False).state == "degraded"
    shared.lab.reset()
    assert shared.lab.status(memory=False).state == "ready"
    assert len(run_demo(shared.lab.endpoints)) > 0
    assert [verdict for verdict in shared.lab.check(wait_for_rest=60) if not verdict.holds] == []


def test_a_failed_task_is_restarted_until_it_runs(shared: LabHarness) -> None:
    """The watcher restarts a failed task, which Connect leaves failed, until it runs and orders continue."""
    lab = shared.lab
    lab.reset()
    url = lab.endpoints.databases["payment"]
    connector = f"{lab.endpoints.connect}/connectors/payment-outbox"
    before = restart_count(shared, "payment")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER PUBLICATION outbox RENAME TO hidden")
        try:
            http.request("POST", f"{connector}/restart?includeTasks=true", timeout=10).raise_for_status()
            assert wait_until(lambda: restart_count(shared, "payment") >= before + 2, 30)
        finally:
            # Before any row is written: PostgreSQL skips the rows of a time without the publication.
            connection.execute("ALTER PUBLICATION hidden RENAME TO outbox")
    assert wait_for_outcome(lab, place_order(lab), 60) == ("COMPLETED", None)
    assert wait_until(lambda: lab.status(memory=False).state == "ready", 20)
    assert wait_until(lambda: "payment-outbox has failed; restart 2 in a row" in lab.logs("connect-watcher"), 20)


def test_rows_written_without_the_publication_do_not_block_the_relay(shared: LabHarness) -> None:
    """If the publication was missing for a while, PostgreSQL skips the rows of that time, and the relay continues."""
    lab = shared.lab
    lab.reset()
    with psycopg.connect(lab.endpoints.databases["payment"], autocommit=True) as connection:
        connection.execute("ALTER PUBLICATION outbox RENAME TO hidden")
        connection.execute("UPDATE accounts SET balance_cents = balance_cents")
        connection.execute("ALTER PUBLICATION hidden RENAME TO outbox")
    assert wait_for_outcome(lab, place_order(lab), 60) == ("COMPLETED", None)


def test_startup_corrects_a_position_beyond_the_log(shared: LabHarness) -> None:
    """A startup corrects a stored position beyond the end of the log, and no event is lost.

    With such a position, for example another lab's, the connector would skip all new events. After the startup it
    continues from its slot's position.
    """
    set_position_beyond_the_log(shared, "shipping")
    order = place_order(shared.lab)
    assert wait_until(lambda: read_order(shared.lab, order)["status"] == "PAID", 20)
    shared.lab.down()
    shared.lab.up()
    assert wait_for_outcome(shared.lab, order) == ("COMPLETED", None)
    assert [verdict for verdict in shared.lab.check(wait_for_rest=60) if not verdict.holds] == []


@pytest.mark.long
def test_reset_renews_a_connector_that_relays_nothing(shared: LabHarness) -> None:
    """A reset renews a connector that runs and reads, but relays no probe event."""
    set_position_beyond_the_log(shared, "shipping")
    assert wait_until(lambda: shared.lab.status(memory=False).state == "ready", 20)
    shared.lab.reset()
    assert wait_for_outcome(shared.lab, place_order(shared.lab)) == ("COMPLETED", None)
    assert [verdict for verdict in shared.lab.check(wait_for_rest=60) if not verdict.holds] == []


def test_logical_message_does_not_stop_the_relay(shared: LabHarness) -> None:
    """A logical message in PostgreSQL's log is not an event and does not stop the relay.

    Debezium would wait forever for a topic for it.
    """
    lab = shared.lab
    lab.reset()
    with psycopg.connect(lab.endpoints.databases["payment"], autocommit=True) as connection:
        connection.execute("SELECT pg_logical_emit_message(false, 'somebody', 'hello')")
        connection.execute("SELECT pg_logical_emit_message(true, '', 'hello')")
    assert wait_for_outcome(lab, place_order(lab), 60) == ("COMPLETED", None)


def test_records_match_the_asyncapi_contract(shared: LabHarness) -> None:
    """Every record of the saga has the headers and the payload that docs/asyncapi.yaml specifies."""
    shared.lab.reset()
    stories = run_demo(shared.lab.endpoints)
    orders = {story.order["order_id"] for story in stories}
    records = [r for r in broker.read_all(shared.lab.endpoints.kafka, _topics(shared)) if r.type != probe_event.TYPE]
    assert {record.key for record in records} == orders
    headers = _validator("#/components/schemas/Headers")
    for record in records:
        specified = {name: value for name, value in record.headers.items() if name != "id"}
        assert list(headers.iter_errors(specified)) == []
        payload = _validator(ASYNCAPI["components"]["messages"][record.type]["payload"]["$ref"])
        assert list(payload.iter_errors(json.loads(record.value or b"null"))) == []
        channel = next(c for c in ASYNCAPI["channels"].values() if record.type in c["messages"])
        assert channel["address"] == record.topic


def test_the_same_order_stays_in_one_partition(shared: LabHarness) -> None:
    """All events of an order are in one partition per topic, which preserves their order there."""
    run_demo(shared.lab.endpoints)
    places: dict[tuple[str | None, str], set[int]] = {}
    for record in broker.read_all(shared.lab.endpoints.kafka, _topics(shared)):
        if record.type != probe_event.TYPE:
            places.setdefault((record.key, record.topic), set()).add(record.partition)
    assert {len(partitions) for partitions in places.values()} == {1}


def _topics(harness: LabHarness) -> list[str]:
    return [service.events_topic for service in access_of(harness.lab).services]


def _validator(reference: str) -> Draft202012Validator:
    schema = {"$ref": reference, "components": ASYNCAPI["components"]}
    return Draft202012Validator(schema, format_checker=FormatChecker())


def test_event_contracts_are_not_empty() -> None:
    """The contracts to which the records are compared are not empty."""
    assert len(ASYNCAPI["components"]["messages"]) == 14
    assert Path(ROOT / "docs" / "asyncapi.yaml").stat().st_size > 10_000


def test_poll_interval_is_that_of_the_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connector gets the poll interval of LAB_RELAY_POLL_MS, and by default the one of this system."""
    server = DatabaseServer("127.0.0.1", 5432, "order", "")
    monkeypatch.setenv("LAB_RELAY_POLL_MS", "35")
    assert connector_config(server)["poll.interval.ms"] == "35"
    assert connector_config(server, SHORT_PAUSE)["poll.interval.ms"] == "4"
    monkeypatch.delenv("LAB_RELAY_POLL_MS")
    assert connector_config(server)["poll.interval.ms"] == ("4" if sys.platform == "linux" else "20")


@pytest.mark.parametrize("value", ["0", "-4", "4ms", "1.5", "1001", "９", " "])
def test_start_refuses_an_invalid_poll_interval(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lab up` with an invalid LAB_RELAY_POLL_MS starts nothing, names the value, and says what it may be."""
    monkeypatch.setenv("LAB_RELAY_POLL_MS", value)
    lab = Lab(paths=LabPaths(tmp_path / "state", tmp_path / "cache"))
    with pytest.raises(LabError, match=r"LAB_RELAY_POLL_MS is .* from 1 to 1000") as caught:
        lab.up()
    assert repr(value) in caught.value.problem
    assert lab.status(memory=False).state == "stopped"
