"""The live views show the events of the lab, and leave nothing behind when no page shows them."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from itertools import permutations
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from labkit import Session
from labkit.aliases import Aliases
from labkit.client.shop import Order
from labkit.errors import WaitTimedOut
from labkit.views import live as live_views
from labkit.views import stream
from labkit.views.drawing import map_drawing
from labkit.views.feed import Observation
from labkit.views.live import LiveView
from labkit.views.positions import Positions
from labkit.views.stream import EventStream
from labkit.views.system_map import REMEMBERED, SystemMap, _arrows_of, in_causal_order
from labkit.waiting import wait_until
from labstack.clients import broker, http

DIAGRAM = Path(__file__).resolve().parents[2] / "docs" / "architecture.mmd"
ARROW = re.compile(r"^ +(\w+) -\.?->\|[^|]+\| (\w+)$", re.M)
SERVICES = ("order", "inventory", "payment", "shipping")


def view_threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("labkit"))


@pytest.fixture(autouse=True)
def _no_thread_left(session: Session) -> Iterator[None]:
    """Check that no view's thread is left after a test, and stop leftovers so that they can't affect the next test."""
    yield
    try:
        wait_until(lambda: view_threads() == [], 10, what="the views' threads to end")
    finally:
        for listener in list(session.look._feed._listeners):
            listener.__self__.stop()  # type: ignore[attr-defined]


@pytest.fixture
def live_map(session: Session) -> Iterator[SystemMap]:
    """A map of a lab at rest, without remaining events of an earlier test."""
    session.lab.reset()
    view = session.look.map()
    yield view
    view.stop()


def place_orders(session: Session) -> list[Order]:
    """Place orders of which some fail, and wait until every service has handled every event."""
    shop = session.shop
    orders = [shop.place_order(who, "lisbon", {"earl-grey": 1}) for who in ("ada", "nobody", "grace", "nobody")]
    orders.append(shop.place_order("ada", "tristan-da-cunha", {"earl-grey": 1}))
    for order in orders:
        shop.follow(order)
    session.look.wait_for_rest(orders)
    return orders


def row_count(session: Session, service: str, query: str, orders: list[Order]) -> int:
    with session.look.db.connect(service) as db:
        row = db.execute(query.encode(), [[order.order_id for order in orders]]).fetchone()
    assert row is not None
    return int(row[0])


def test_the_map_has_each_box_and_arrow_of_the_diagram() -> None:
    """Each box and each arrow of docs/architecture.mmd is on the map."""
    text = DIAGRAM.read_text(encoding="utf-8")
    drawn = set(re.findall(r"^ +(\w+)\[", text, re.M))
    assert {box.id for box in map_drawing.BOXES} == drawn
    assert set(ARROW.findall(text)) == {arrow.ends for arrow in map_drawing.ARROWS}


def test_the_map_counts_every_event_once(session: Session, live_map: SystemMap) -> None:
    """Rows, records and handled events of some orders are counted once each, at the arrows of their path."""
    orders = place_orders(session)
    ids = {order.order_id for order in orders}
    rows = {
        s: row_count(session, s, "SELECT count(*) FROM outbox WHERE aggregateid::text = ANY(%s)", orders)
        for s in SERVICES
    }
    records = [r for r in broker.read_all(session.lab.endpoints.kafka, session.look.kafka.topics) if r.key in ids]
    events = [record.headers["ce_id"] for record in records]
    handled: dict[str, int] = {}
    for service in SERVICES:
        with session.look.db.connect(service) as db:
            row = db.execute("SELECT count(*) FROM inbox WHERE event_id::text = ANY(%s)", [events]).fetchone()
            assert row is not None
            handled[service] = row[0]
    expected = {
        **{f"{s.capitalize()}API>{s.capitalize()}Outbox": rows[s] for s in SERVICES},
        "Debezium>Kafka": len(records),
        **{f"Kafka>{s.capitalize()}API": handled[s] for s in SERVICES},
    }

    def seen() -> dict[str, int]:
        passed = live_map.passed
        consumed = {f"Kafka>{s.capitalize()}API" for s in SERVICES}
        return {
            arrow: passed[f"{arrow}:forward"] + passed[f"{arrow}:undo"] if arrow in consumed else passed[arrow]
            for arrow in expected
        }

    with contextlib.suppress(WaitTimedOut):
        wait_until(lambda: seen() == expected, 10)
    assert (seen(), live_map._feed.errors) == (expected, {})
    # Envoy's counters are read about once a second.
    wait_until(lambda: live_map.passed["User>Gateway"] >= len(orders), 10)
    assert live_map.back["Kafka>InventoryAPI:undo"] >= 3  # two failed payments, and one order without a carrier


def test_the_map_lists_observations_in_the_order_of_their_causes() -> None:
    """A row is listed before its record and the record before its handling, in whatever order they arrived."""
    cause = [
        Observation("request", "order", at=10.0),
        Observation("row", "order", "OrderCreated", "o", "e1", at=10.0104),
        Observation("record", "order", "OrderCreated", "o", "e1", at=10.010),  # whole milliseconds
        Observation("handled", "inventory", "OrderCreated", "o", "e1", at=10.0204),
        Observation("row", "inventory", "InventoryReserved", "o", "e2", at=10.0209),
        Observation("record", "inventory", "InventoryReserved", "o", "e2", at=10.031),
        Observation("given up", "payment", "InventoryReserved", "o", "e2", at=10.2),
    ]
    for arrival in permutations(cause):
        assert in_causal_order(arrival) == cause


def test_stopped_paused_and_killed_components_are_grey(session: Session, live_map: SystemMap) -> None:
    """A stopped, a paused and a killed component are grey, each with its state, until they run again."""
    lab = session.lab
    for verb, heal, word in (
        ("stop", "start", "stopped"),
        ("faults.pause", "faults.resume", "paused"),
        ("faults.kill", "start", "failed"),
    ):
        attrgetter(verb)(lab)("payment")
        wait_until(lambda word=word: word in live_map.off().get("PaymentAPI", ""), 10)  # type: ignore[misc]
        assert word in live_map.svg()
        assert word in live_map.alt
        attrgetter(heal)(lab)("payment")
        wait_until(lambda: "PaymentAPI" not in live_map.off(), 10)


def test_the_map_continues_during_a_database_outage(session: Session, live_map: SystemMap) -> None:
    """A database outage is shown while the others are followed; afterwards each event is counted once."""
    lab = session.lab
    lab.stop("shipping-db")
    feed = session.look._feed
    wait_until(lambda: "shipping-db" in feed.errors, 10)
    session.shop.place_order("ada", "lisbon", {"earl-grey": 1})
    wait_until(lambda: live_map.passed["PaymentAPI>PaymentOutbox"] == 1, 10)
    lab.start("shipping-db")
    wait_until(lambda: live_map.passed["ShippingAPI>ShippingOutbox"] == 1, 30)
    wait_until(lambda: live_map.passed["OrderAPI>OrderOutbox"] == 2, 30)
    assert "shipping-db" not in feed.errors


def test_a_view_stops_with_its_last_page(session: Session) -> None:
    """A view stops with its last page, and the feed with the last view; a page that returns starts both."""
    views: list[LiveView] = [session.look.map(), session.look.stream()]
    feed = session.look._feed
    for view in views:
        view.handle_message({"kind": "here", "view": "a"})
        view.handle_message({"kind": "here", "view": "b"})
        view.handle_message({"kind": "gone", "view": "a"})
        assert view.live
    views[0].handle_message({"kind": "gone", "view": "b"})
    assert [view.live for view in views] == [False, True]
    assert feed.running
    views[1].handle_message({"kind": "gone", "view": "b"})
    wait_until(lambda: not feed.running, 10)
    views[0].handle_message({"kind": "here", "view": "c"})
    assert views[0].live
    assert feed.running
    views[0].stop()


def test_a_view_resumes_when_its_page_sends_a_heartbeat_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view without a heartbeat from a page stops, and its text says so; with the next heartbeat it resumes."""
    monkeypatch.setattr(live_views, "HEARTBEAT_TIMEOUT", 0.2)
    view = session.look.map()
    view.handle_message({"kind": "here", "view": "a"})
    wait_until(lambda: not view.live, 10)
    assert "has stopped" in view.text()
    monkeypatch.undo()
    view.handle_message({"kind": "here", "view": "a"})
    assert view.live
    assert "has stopped" not in view.text()
    view.stop()


def test_the_stream_shows_and_filters_records(session: Session) -> None:
    """Each record is in the table once, with its headers and payload, and the filters select records."""
    view = session.look.stream()
    orders = place_orders(session)
    ids = {order.order_id for order in orders}
    records = [r for r in broker.read_all(session.lab.endpoints.kafka, session.look.kafka.topics) if r.key in ids]
    wait_until(lambda: view.count == len(records), 10)
    table = view.table()
    assert sorted(zip(table.topic, table.partition, table.offset, strict=True)) == sorted(
        (record.topic, str(record.partition), str(record.offset)) for record in records
    )
    assert set(view.table(type="PaymentFailed").topic) == {"payment.events"}
    assert set(view.table(order=orders[0].alias).order) == {orders[0].alias}
    # Kafka does not define which topic's record is read first.
    line = next(one for one in view.snapshot()["lines"] if "ce_type: OrderCreated" in one["whole"])
    assert '"customer_id"' in line["whole"]
    view.stop()


def test_a_view_adopts_the_short_name_of_a_later_response(session: Session) -> None:
    """A view that sees a record before the shop's answer assigns no name, and adopts the answer's name."""
    view: EventStream = session.look.stream()
    live_map: SystemMap = session.look.map()
    order = session.shop.place_order("ada", "lisbon", {"earl-grey": 1})
    wait_until(lambda: view.count >= 1, 20)
    view.stop()
    live_map.stop()
    names = Aliases()
    with view._lock, live_map._lock:
        view._aliases = live_map._aliases = names
        lines = view.snapshot()["lines"]
        short = f"…{order.order_id[-6:]}"
        assert {line["cells"][2] for line in lines} == {short}
        assert all(short in line["whole"] for line in lines)
        assert any(short in words for words, _ in live_map._content()["told"])
        assert names.name(order.order_id, "order") == "order-1"
        assert (view.batch() or {})["named"] == {short: "order-1"}
        assert view.batch() is None
        assert len(view.table(order="order-1")) == view.count
        assert any("order-1" in words for words, _ in live_map._content()["told"])
    session.shop.follow(order)


def test_the_memory_of_a_view_is_bounded(session: Session) -> None:
    """After fifty thousand events a view stores no more than before, and sends the page a bounded batch."""
    shown: EventStream = session.look.stream()
    live_map: SystemMap = session.look.map()
    order = place_orders(session)[0]
    (record, *_) = [
        r for r in broker.read_all(session.lab.endpoints.kafka, session.look.kafka.topics) if r.key == order.order_id
    ]
    event = Observation("record", "order", "OrderCreated", order.order_id, "e", record.time / 1000, record=record)
    for view in (shown, live_map):
        for _ in range(500):
            view._receive([event] * 100, None)
    with shown._lock, live_map._lock:
        assert shown.count >= 50_000
        assert len(shown.table()) == stream.MAX_LINES
        assert len((shown.batch() or {"lines": ()})["lines"]) <= stream.BATCH_LINES
        assert len(live_map._recent) <= REMEMBERED
        assert len((live_map.batch() or {"lit": ()})["lit"]) <= len(map_drawing.ARROWS) * 2
    shown.stop()
    live_map.stop()


def test_positions_show_what_the_relay_has_delivered(session: Session) -> None:
    """Without the relay a row is beyond the slot's position and waits; with it, the topic has the row's record."""
    lab, shop, look, _ = session
    lab.check(wait_for_rest=60)
    view: Positions = look.positions()
    try:
        lab.stop("connect")
        order = shop.place_order("ada", "lisbon", {"earl-grey": 1})

        def newest() -> Any:
            view.query()
            place = view.by_service["order"]
            return place.rows[0], place

        row, place = newest()
        assert (row.type, row.order_id) == ("OrderCreated", order.order_id)
        assert not place.active
        assert place.confirmed is not None
        assert row.at > place.confirmed
        assert not row.delivered
        assert "order: slot has no reader, 1 of the newest rows wait" in view.alt
        assert "no process reads the slot" in view.html()
        before = sum(place.offsets.values())
        lab.start("connect")
        wait_until(lambda: newest()[1].active and newest()[0].delivered, 30)
        wait_until(lambda: sum(newest()[1].offsets.values()) >= before + 1, 30)
        up_to_date = dict.fromkeys(("inventory", "payment", "shipping"), 0)
        wait_until(lambda: newest()[1].behind == up_to_date, 30)
        assert view.table().service.tolist() == list(SERVICES)
    finally:
        view.stop()
        shop.follow(order)


def test_positions_show_delivered_rows_after_a_kill_of_the_relay(session: Session) -> None:
    """A killed relay has not confirmed its last records; a view that starts afterwards reads them from the topics."""
    lab, shop, look, _ = session
    order = shop.follow(shop.place_order("ada", "lisbon", {"earl-grey": 1}))
    look.wait_for_rest(order)
    lab.faults.kill("connect")
    view: Positions = look.positions()
    try:
        view.query()
        place = view.by_service["order"]
        assert not place.active
        assert [row.delivered for row in place.rows] == [True] * len(place.rows)
        assert view.table()["in the topic"].tolist() == ["yes"] * len(SERVICES)
        assert "order: slot has no reader, 0 of the newest rows wait" in view.alt
    finally:
        view.stop()
        lab.start("connect")


def test_positions_count_the_records_that_a_reader_has_not_handled(session: Session) -> None:
    """A paused reader is behind by the records written since; the other readers are up to date."""
    lab, shop, look, _ = session
    lab.check(wait_for_rest=60)
    consumer = f"{lab.endpoints.services['payment']}/manage/consumer"
    view: Positions = look.positions()
    placed = []
    try:
        http.request("POST", f"{consumer}/pause", timeout=20).raise_for_status()
        placed = [shop.place_order("ada", "lisbon", {"earl-grey": 1}) for _ in range(3)]

        def behind(service: str) -> dict[str, int]:
            view.query()
            return view.by_service[service].behind

        wait_until(lambda: behind("order") == {"inventory": 0, "payment": 3, "shipping": 0}, 20)
        wait_until(lambda: behind("inventory")["payment"] == 3, 20)
    finally:
        http.request("POST", f"{consumer}/resume", timeout=20).raise_for_status()
        view.stop()
    for order in placed:
        shop.follow(order)


def test_every_arrow_of_a_path_is_on_the_map() -> None:
    """Every arrow of an observation's path is drawn on the map."""
    drawn = {arrow.id for arrow in map_drawing.ARROWS}
    for stage in ("request", "row", "record", "handled", "given up"):
        for service in SERVICES:
            for direction in ("on", "back"):
                assert set(_arrows_of(Observation(stage, service), direction)) <= drawn
