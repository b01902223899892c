"""The shop's client, on a real lab."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import ClassVar, cast

import psycopg
import pytest

from labkit import Session
from labkit.aliases import Aliases
from labkit.client.shop import Shop
from labkit.errors import Conflict, KitError, NotFound, Refused, ShopUnavailable, WaitTimedOut
from labkit.inspect.look import Look
from labstack import Lab
from labstack.config.paths import LabPaths
from tests.stack.one_order import extend_deadlines


def test_an_order_completes_and_every_service_returns_its_data(session: Session) -> None:
    """An order is PENDING at first and COMPLETED at the end, and every service returns its data."""
    shop = session.shop
    order = shop.place_order("ada", "lisbon", {"earl-grey": 2})
    assert order.status == "PENDING"
    done = shop.follow(order)
    assert repr(done) == f"{order.alias}: ada orders 2 × earl-grey to lisbon for 17.80 EUR · COMPLETED"
    assert [change["status"] for change in shop.history(order)] == ["PENDING", "RESERVED", "PAID", "COMPLETED"]
    assert shop.reservations(order)[0]["status"] in ("RESERVED", "SHIPPED")
    assert [entry["effect"] for entry in shop.payments(order)[0]["entries"]] == ["capture"]
    assert shop.shipments(order)[0]["carrier"] == "swallow-express"


def test_an_order_is_found_by_its_short_name(session: Session) -> None:
    """The short name, the id and the order object identify the same order."""
    order = session.shop.place_order("grace", "rome", {"rooibos": 1})
    assert session.shop.order(order.alias).order_id == order.order_id == session.shop.order(order.order_id).order_id


def test_an_idempotency_key_creates_one_order(session: Session) -> None:
    """The same request with the same key returns the same order; another request with that key is a conflict."""
    key = str(uuid.uuid4())
    first = session.shop.place_order("ada", "rome", {"rooibos": 1}, key=key)
    assert session.shop.place_order("ada", "rome", {"rooibos": 1}, key=key).order_id == first.order_id
    with pytest.raises(Conflict) as caught:
        session.shop.place_order("ada", "rome", {"rooibos": 2}, key=key)
    assert caught.value.status == 409


class Recorder(BaseHTTPRequestHandler):
    """A server of two pages of orders, which records the requests."""

    seen: ClassVar[list[tuple[str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.rfile.read(int(self.headers.get("content-length", 0)))
        is_last = "cursor=second" in self.path or len(self.seen) > 5
        page = {"items": [DOCUMENT], "next_cursor": None if is_last else "second"}
        content = json.dumps(page if self.command == "GET" else DOCUMENT).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Print nothing."""


DOCUMENT = {"order_id": str(uuid.uuid4()), "status": "PENDING"}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Return a shop whose services are the recorder."""
    Recorder.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(Shop, "origin", lambda self, service: f"http://127.0.0.1:{server.server_port}")
        yield Shop(cast(Lab, None), Aliases())
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize(
    ("key", "headers", "sent"),
    [
        (None, None, {}),
        ("one", None, {"idempotency-key": "one"}),
        (None, {"x-test": "yes"}, {"x-test": "yes"}),
        ("one", {"x-test": "yes"}, {"idempotency-key": "one", "x-test": "yes"}),
    ],
)
def test_key_and_headers_are_sent_together(
    recorded: Shop, key: str | None, headers: dict[str, str] | None, sent: dict[str, str]
) -> None:
    """An order is sent with its key and with the given headers, with one of them, or with none."""
    recorded.place_order("ada", "rome", {"rooibos": 1}, key=key, headers=headers)
    ((path, received),) = Recorder.seen
    assert path == "/orders"
    assert {name: value for name, value in received.items() if name in ("idempotency-key", "x-test")} == sent


def test_every_page_of_a_listing_has_the_filters(recorded: Shop) -> None:
    """The request for the next page has the filters of the first, and the cursor."""
    assert len(list(recorded.orders(status="PENDING", customer_id="ada"))) == 2
    assert [path for path, _ in Recorder.seen] == [
        "/orders?status=PENDING&customer_id=ada",
        "/orders?status=PENDING&customer_id=ada&cursor=second",
    ]


def test_a_rejection_names_the_problem_and_its_location(session: Session) -> None:
    """A rejection names the problem and its location."""
    with pytest.raises(Refused, match=r"422 .*#/items/0/sku: no such product"):
        session.shop.place_order("ada", "rome", {"coffee": 1})


def test_a_completed_order_can_not_be_cancelled(session: Session) -> None:
    """Cancelling a completed order is a conflict, shown as one line with the message and one with the next step."""
    order = session.shop.place_order("ada", "rome", {"rooibos": 1})
    session.shop.follow(order)
    with pytest.raises(Conflict, match="COMPLETED") as caught:
        session.shop.cancel(order)
    assert order.order_id not in str(caught.value)
    message, next_step = caught.value._render_traceback_()
    assert "\n" not in message
    assert "places the order" in next_step


def test_an_unknown_order_product_or_account_is_not_found(session: Session) -> None:
    """An unknown order, product or account is not found."""
    for request in (lambda: session.shop.order(str(uuid.uuid4())), lambda: session.shop.account("nobody")):
        with pytest.raises(NotFound, match="404"):
            request()


def test_unknown_short_name_is_not_sent(session: Session) -> None:
    """For a short name that this kernel has not shown, the error explains how to find orders, and nothing is sent."""
    session.shop.products()
    last = session.shop.last
    with pytest.raises(KitError, match=r"Unknown order 'order-99'(.|\n)*shop\.orders"):
        session.shop.order("order-99")
    assert session.shop.last is last


def test_the_advice_for_an_unknown_product_is_about_products(session: Session) -> None:
    """An unknown product, also one that looks like a path, is not found, and the next step lists the products."""
    for sku in ("rooibuss", "a?b#c"):
        with pytest.raises(NotFound) as caught:
            session.shop.product(sku)
        assert "shop.products()" in caught.value._render_traceback_()[1]


def test_stock_and_money_can_be_added(session: Session) -> None:
    """A restock and a deposit take effect at once."""
    session.lab.check(wait_for_rest=60)  # no order in flight changes the balance meanwhile
    before = session.shop.product("cast-iron-kettle")["on_hand"]
    assert session.shop.restock("cast-iron-kettle", 1)["on_hand"] == before + 1
    balance = session.shop.account("hedy")["balance_cents"]
    assert session.shop.deposit("hedy", 500)["balance_cents"] == balance + 500
    assert session.shop.account("hedy")["balance_cents"] == balance + 500


def test_a_listing_follows_the_cursor_to_the_last_page(session: Session) -> None:
    """A listing follows the cursor to the last page, with the same filter, and has each order once, newest first."""
    placed = [session.shop.place_order("leslie", "paris", {"matcha": 1}).order_id for _ in range(2)]
    session.shop.place_order("ada", "paris", {"matcha": 1})
    placed.append(session.shop.place_order("leslie", "paris", {"matcha": 1}).order_id)
    one_by_one = list(islice(session.shop.orders(customer_id="leslie", limit="1"), 1000))  # a lost cursor has no end
    assert [order.order_id for order in one_by_one[:3]] == placed[::-1]
    assert {order.document["customer_id"] for order in one_by_one} == {"leslie"}
    with psycopg.connect(session.lab.endpoints.databases["order"]) as connection:
        rows = connection.execute("SELECT order_id::text FROM orders WHERE customer_id = 'leslie'").fetchall()
    assert sorted(order.order_id for order in one_by_one) == sorted(row[0] for row in rows)


def test_a_gateway_that_is_down_is_named(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the gateway is down, the error names it and the next step."""
    monkeypatch.setattr(Shop, "origin", lambda self, service: "http://127.0.0.1:1")
    with pytest.raises(ShopUnavailable, match=r"gateway doesn't answer(.|\n)*lab\.start\('envoy'\)"):
        session.shop.products()


def test_last_shows_request_and_response(session: Session) -> None:
    """`last` shows request and response, with short names and without long ids."""
    order = session.shop.place_order("radia", "vienna", {"keemun": 1})
    shown = repr(session.shop.last)
    assert shown.startswith("POST /orders\n")
    assert "HTTP/1.1 201 Created" in shown
    assert f"location: /orders/{order.alias}" in shown
    assert order.order_id not in shown


def test_a_timeout_reports_the_components_that_are_down(session: Session) -> None:
    """A timeout reports the order's status, the components that are down, and how to start them."""
    session.lab.stop("payment")
    try:
        order = session.shop.place_order("ada", "rome", {"rooibos": 1})
        with pytest.raises(WaitTimedOut, match=rf"{order.alias}; it is still (PENDING|RESERVED)") as caught:
            session.shop.follow(order, timeout=2)
        assert "Not running: payment." in str(caught.value)
        assert "`lab.start('payment')`" in str(caught.value)
        extend_deadlines(session.lab)
    finally:
        session.lab.start("payment")
    assert session.shop.follow(order).status == "COMPLETED"


def test_a_lab_that_is_down_is_reported_in_one_line(tmp_path: Path) -> None:
    """Shop and look report that the lab is down and how to start it, in one line without a traceback."""
    lab = Lab(paths=LabPaths(tmp_path / "state", tmp_path / "cache"))
    aliases = Aliases()
    shop, look = Shop(lab, aliases), Look(lab, aliases)
    for request in (
        lambda: shop.place_order("ada", "lisbon", {"sencha": 1}),
        lambda: look.db.rows("order", "SELECT 1"),
        lambda: look.kafka.records(),
        lambda: look.connect.config("order"),
        lambda: look.metrics.value("order", "http_requests_total"),
    ):
        with pytest.raises(ShopUnavailable, match="The lab is down") as caught:
            request()
        assert "`lab.up()` starts it" in str(caught.value)
        assert len(caught.value._render_traceback_()) == 1


def test_shop_and_look_ignore_proxies(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shop and look connect to the lab directly, whatever proxy the environment names."""
    for name, proxy in {"HTTP_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "socks://127.0.0.1:1", "NO_PROXY": ""}.items():
        monkeypatch.setenv(name, proxy)
        monkeypatch.setenv(name.lower(), proxy)
    aliases = Aliases()
    shop, look = Shop(session.lab, aliases), Look(session.lab, aliases)
    assert shop.follow(shop.place_order("ada", "rome", {"rooibos": 1})).status == "COMPLETED"
    assert look.connect.config("order")
    assert look.metrics.value("order", "events_total") > 0
