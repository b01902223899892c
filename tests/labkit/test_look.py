"""Tables, records and the live view, on a real lab."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from confluent_kafka import Producer

from labkit import Session, wait_until
from labkit.aliases import Aliases
from labkit.errors import KitError, QueryFailed, WaitTimedOut
from labkit.exercises.progress import ProgressFile
from labkit.sources.records import in_order_of_cause
from labkit.views.feed import _RowReader
from labkit.views.flow import Flow
from labstack.clients.broker import Record
from labstack.errors import LabError


def test_a_query_accepts_an_order_and_shows_its_short_name(session: Session) -> None:
    """A query accepts an order as a parameter, and shows its short name."""
    order = session.shop.place_order("ada", "rome", {"rooibos": 1})
    rows = session.look.db.rows("order", "SELECT order_id, items FROM orders WHERE order_id = %(order)s", order=order)
    assert list(rows.order_id) == [order.alias]
    assert '"sku": "rooibos"' in rows["items"].item()


def test_queries_are_read_only(session: Session) -> None:
    """PostgreSQL itself rejects a statement that would change something."""
    with pytest.raises(QueryFailed, match="read-only"):
        session.look.db.rows("order", "DELETE FROM outbox RETURNING id")


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "SELECT pg_read_file('/etc/hostname')",
        "SELECT pg_switch_wal()",
        "SELECT pg_logical_emit_message(false, 'x', 'y')",
        "SELECT lo_create(0)",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> 'reader'",
        "SELECT rolpassword FROM pg_authid",
        "SET transaction_read_only = off",
        "SELECT 1; SELECT 2",
        "COMMIT; DELETE FROM outbox",
    ],
)
def test_a_query_can_only_read_the_tables(session: Session, query: str) -> None:
    """The role of queries has no right to change or run anything, and a call takes a single statement."""
    with pytest.raises(QueryFailed):
        session.look.db.rows("order", query)


def test_each_changed_result_of_a_query_is_kept(session: Session) -> None:
    """Each changed result is kept until the condition holds, and a timeout raises."""
    order = session.shop.place_order("ada", "rome", {"rooibos": 1})
    query = "SELECT status FROM orders WHERE order_id = %(order)s"
    seen = session.look.db.changes("order", query, until=lambda rows: "COMPLETED" in set(rows.status), order=order)
    assert list(seen.status)[-1] == "COMPLETED"
    assert len(set(seen.status)) == len(seen)
    assert list(seen.seconds) == sorted(seen.seconds)
    with pytest.raises(WaitTimedOut, match="the rows of order"):
        session.look.db.changes("order", query, until=lambda rows: False, timeout=0.2, order=order)


def test_a_query_error_has_the_message_of_postgresql(session: Session) -> None:
    """An error names the service and PostgreSQL's message; an unknown service name is answered with the known ones."""
    with pytest.raises(QueryFailed, match='order says: relation "nothing" does not exist'):
        session.look.db.rows("order", "SELECT * FROM nothing")
    with pytest.raises(KitError, match="order, inventory, payment, shipping"):
        session.look.db.rows("orders", "SELECT 1")


@pytest.mark.parametrize(
    ("query", "parameters", "next_step"),
    [
        ("SELECT 1 WHERE 'ada' LIKE 'a%' AND %(x)s = 1", {"x": 1}, "LIKE 'a%%'"),
        ("SELECT %(x)s", {"y": 1}, "name=value"),
        ("SELECT %s", {"y": 1}, "name=value"),
        ("SELECT 1 FROM nothing", {}, "information_schema.tables"),
        ("SELECT nothing FROM orders", {}, "SELECT *"),
        ("SELEC 1", {}, "where the message points"),
    ],
)
def test_a_rejected_query_has_a_fitting_next_step(
    session: Session, query: str, parameters: dict[str, Any], next_step: str
) -> None:
    """A literal % beside parameters, a missing parameter and unknown names each have their own next step."""
    with pytest.raises(QueryFailed) as caught:
        session.look.db.rows("order", query, **parameters)
    assert next_step in caught.value.next_step


def test_unknown_names_are_answered_with_the_closest(session: Session) -> None:
    """An unknown service, topic, metric, label or dashboard is answered with the closest name."""
    look = session.look
    for call, meant in (
        (lambda: look.db.rows("ordr", "SELECT 1"), "order"),
        (lambda: look.kafka.records(topic="order.event"), "order.events"),
        (lambda: look.kafka.consumer("paymnt"), "payment"),
        (lambda: look.connect.config("Shipping"), "shipping"),
        (lambda: look.connect.stored_offset("shiping"), "shipping"),
        (lambda: look.metrics.value("order", "http_request_total"), "http_requests_total"),
        (lambda: look.metrics.value("order", "http_requests_total", methd="GET"), "method"),
        (lambda: look.metrics.dashboard("sagas"), "saga"),
        (lambda: look.wait_for_rest([], without="order-db"), "order"),
        (lambda: list(session.shop.orders(statu="PENDING")), "status"),
        (lambda: session.lab.mesh.show("VirtualServce/order"), "VirtualService/order"),
    ):
        with pytest.raises(LabError) as caught:
            call()
        assert f"did you mean {meant!r}?" in caught.value.next_step


def test_a_record_that_does_not_arrive_is_reported_with_those_that_did(session: Session) -> None:
    """A misspelt event type is answered with the types that the order has, and the closest of them."""
    order = session.shop.place_order("ada", "rome", {"rooibos": 1})
    session.look.kafka.record(order, "OrderCompleted")
    with pytest.raises(WaitTimedOut, match=r"it has OrderCreated, (.|\n)*did you mean 'OrderCompleted'"):
        session.look.kafka.record(order, "OrderComplete", timeout=0.1)


def test_events_are_listed_in_causal_order(session: Session) -> None:
    """The events of an order are listed in causal order, each with its cause."""
    order = session.shop.place_order("barbara", "tristan-da-cunha", {"rooibos": 1})
    events = session.look.kafka.events(session.look.kafka.take(7, order))
    chain = ["OrderCreated", "InventoryReserved", "PaymentCompleted", "ShippingFailed"]
    assert list(events.type) == [*chain, "InventoryReleased", "PaymentRefunded", "OrderCancelled"]
    assert list(events.cause[:4]) == ["-", *events.event[:3]]


def test_outcome_is_last_whatever_caused_it() -> None:
    """OrderCancelled is listed last, even if the answer that arrived last, and so caused it, is an early one."""
    caused = {
        "OrderCreated": None,
        "ShippingFailed": "OrderCreated",
        "InventoryReleased": "ShippingFailed",
        "PaymentRefunded": "ShippingFailed",
        "OrderCancelled": "ShippingFailed",
    }
    records = [
        Record(f"{number}.events", 0, 0, 0, "order", {"ce_id": type_, "ce_type": type_, "causation_id": cause}, b"")
        for number, (type_, cause) in enumerate(reversed(caused.items()))
    ]
    types = [record.type for record in in_order_of_cause(records)]
    assert (types[0], types[-1]) == ("OrderCreated", "OrderCancelled")


def test_a_record_shows_its_headers(session: Session) -> None:
    """A record shows topic, key, CloudEvents headers and value, and no long id."""
    order = session.shop.place_order("ada", "rome", {"rooibos": 1})
    record = session.look.kafka.record(order, "OrderCreated")
    assert record.headers["ce_type"] == "OrderCreated"
    assert record.headers["ce_specversion"] == "1.0"
    assert record.value["order_id"] == order.alias
    assert order.order_id not in repr(record)
    assert f"key    {order.alias}" in repr(record)


def test_a_record_that_is_not_json_is_shown(session: Session) -> None:
    """A record that is not JSON is shown, too."""
    key = str(uuid.uuid4())
    producer = Producer({"bootstrap.servers": session.lab.endpoints.kafka})
    producer.produce("order.events", '{"order_id":', key, headers={"ce_type": "Greeting"})
    producer.flush(10)
    (record,) = session.look.kafka.take(1, key)
    assert record.value == '{"order_id":'
    assert "Greeting" in repr(record)


def test_waiting_for_missing_records_times_out(session: Session) -> None:
    """Waiting for more records than exist times out, and the error lists the received ones."""
    key = str(uuid.uuid4())
    with pytest.raises(WaitTimedOut, match="0 came: none"):
        session.look.kafka.take(1, key, timeout=0.5)


def test_a_timed_out_wait_names_its_last_result() -> None:
    """A timed-out wait names its condition and the last result."""
    with pytest.raises(WaitTimedOut, match=r"for the moon; the last result was 0"):
        wait_until(lambda: 0, 0.05, what="the moon")


def test_rows_and_records_are_counted_by_service(session: Session) -> None:
    """Rows and records of an order are counted by service, and none waits at the end."""
    order = session.shop.place_order("ada", "rome", {"rooibos": 1})
    session.look.kafka.record(order, "OrderCompleted")
    relay = session.look.connect.relayed(order).set_index("service")
    assert dict(relay["outbox rows"]) == {"order": 2, "inventory": 1, "payment": 1, "shipping": 1}
    assert relay.waiting.sum() == 0


def test_no_password_is_shown(session: Session) -> None:
    """The connector's configuration is shown without the password."""
    config = session.look.connect.config("order")
    assert config["slot.name"] == "outbox"
    assert not [name for name in config if "password" in name]


def test_the_view_counts_each_row_and_record(session: Session) -> None:
    """The view counts each row and each record of two orders, with the same numbers in text, picture and alt text."""
    flow = session.look.flow(20)
    orders = [session.shop.place_order("ada", "rome", {"rooibos": 1}) for _ in range(2)]
    flow.wait(records=10)
    lanes = flow.lanes
    assert {service: (lane.rows, lane.records) for service, lane in lanes.items()} == {
        "order": (4, 4),
        "inventory": (2, 2),
        "payment": (2, 2),
        "shipping": (2, 2),
    }
    assert flow.text().splitlines()[1].split() == ["order", "4", "→", "4", "0"]
    assert "order: 4 outbox rows, 4 records in Kafka, 0 waiting" in flow.summary()
    assert f"OrderCompleted · {orders[1].alias}" in flow.html()
    assert "aria-label='Outbox flow. order: 4 outbox rows" in flow.html()
    flow.stop()
    assert flow.text().splitlines()[1].split() == ["order", "4", "→", "4", "0"]


def test_a_view_that_starts_during_an_order_leaves_no_rows_waiting(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order that is processed while the view determines its start leaves no rows that wait forever."""
    original_snapshot = _RowReader._snapshot

    def snapshot_after_an_order(rows: _RowReader) -> str:
        if rows.service == "order":
            session.look.wait_for_rest(session.shop.follow(session.shop.place_order("ada", "rome", {"rooibos": 1})))
        return original_snapshot(rows)

    monkeypatch.setattr(_RowReader, "_snapshot", snapshot_after_an_order)
    flow = session.look.flow(20)
    flow.wait(records=3)
    flow.stop()


def test_the_thread_of_the_view_stops(session: Session) -> None:
    """The view's thread stops at its timeout, when it is stopped, and when another view starts."""
    short = session.look.flow(0.2)
    wait_until(lambda: not short.live, 10)
    first, second = session.look.flow(30), session.look.flow(30)
    assert not first.live
    assert second.live
    second.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "labkit-view"]


def test_the_view_has_a_stable_text(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """As text/plain the view is the same in each run, and as a widget it is updated while it is live."""
    flow = session.look.flow(20)
    shown = flow._repr_mimebundle_()
    assert shown["text/plain"] == repr(flow)
    assert repr(flow).startswith("Live view for 20 s")
    assert "application/vnd.jupyter.widget-view+json" in shown
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(flow.widget(), "send", sent.append)
    order = session.shop.place_order("ada", "rome", {"rooibos": 1})
    picture = f"OrderCreated · {order.alias}"
    wait_until(lambda: any(picture in message.get("html", "") for message in sent), 20, what="the order on the page")
    flow.stop()


def test_views_assign_no_short_names(session: Session) -> None:
    """An order that only the view has seen has no short name, so that names don't depend on the view's timing."""
    assert Aliases().known(str(uuid.UUID(int=0xABCDEF))) == "…abcdef"
    assert isinstance(session.look.flow(0.1), Flow)


def test_progress_is_kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A solved exercise stays solved in another kernel; attempts are counted; a broken file counts as empty."""
    folder = tmp_path_factory.mktemp("progress")
    book = ProgressFile(folder)
    book.record_outcome("x", "untouched")
    assert book.entries() == {}
    book.record_outcome("x", "right")
    book.record_outcome("x", "wrong")
    assert ProgressFile(folder).solved("x")
    assert ProgressFile(folder).entries()["x"]["attempts"] == 2
    (folder / "course-progress.json").write_text("{", encoding="utf-8")
    assert ProgressFile(folder).entries() == {}


def test_the_error_for_an_unknown_exercise_names_the_known_ones(session: Session) -> None:
    """An unknown exercise is answered with the names of this notebook's exercises."""
    with pytest.raises(KitError, match="sold-out"):
        session.tasks.check("sold-in")
