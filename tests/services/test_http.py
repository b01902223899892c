"""The HTTP contract of the four services, operation by operation."""

import re
import threading
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from labservices.events import OrderCompleted
from labservices.storage.database import make_engine
from labservices.storage.unavailable import unavailable
from tests.services.postgres import PostgresServer
from tests.services.world import World, make_order_created

UNKNOWN_ID = "0199d2c4-7a30-7c3e-8f4e-3f1c2b9d8e7a"


def order_request(**other: Any) -> dict[str, Any]:
    return {"customer_id": "ada", "destination": "berlin", "items": [{"sku": "mug", "quantity": 2}]} | other


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check that a response is a problem as in RFC 9457, and return its body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"].startswith(("urn:sagalab:problem:", "about:blank"))
    assert body["title"]
    assert body["detail"]
    return body


def test_new_order_is_pending(world: World) -> None:
    """The response is 201 with the order's location, prices and total, identical to a later GET."""
    answer = world.order.http.post("/orders", json=order_request(items=[{"sku": "mug", "quantity": 2}] * 2))
    assert answer.status_code == 201
    body = answer.json()
    assert UUID(body["order_id"]).version == 7
    assert answer.headers["location"] == f"/orders/{body['order_id']}"
    assert body["items"] == [{"sku": "mug", "quantity": 2, "unit_price_cents": 1250}] * 2
    assert (body["status"], body["total_cents"], body["currency"]) == ("PENDING", 5000, "EUR")
    assert (body["failure_reason"], body["version"]) == (None, 1)
    assert body["created_at"].endswith("Z")
    assert world.order.http.get(answer.headers["location"]).json() == body


@pytest.mark.parametrize(
    ("when", "detail"),
    [
        ("TRIGGER ends BEFORE INSERT ON orders", "nothing was changed"),
        ("CONSTRAINT TRIGGER ends AFTER INSERT ON orders INITIALLY DEFERRED", "the change may have been made"),
    ],
    ids=["before the commit", "during the commit"],
)
def test_broken_connection_reports_whether_the_change_may_have_been_made(world: World, when: str, detail: str) -> None:
    """If the connection breaks before the commit, the 503 says that nothing was changed; during it, that it may be."""
    end_session = "BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NEW; END"
    key = {"Idempotency-Key": "k"}
    engine = world.order.runtime.database.engine
    with engine.begin() as connection:
        connection.execute(text(f"CREATE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS '{end_session}'"))
        connection.execute(text(f"CREATE {when} FOR EACH ROW EXECUTE FUNCTION ends()"))
    try:
        answer = world.order.http.post("/orders", json=order_request(), headers=key)
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP FUNCTION ends() CASCADE"))
    assert detail in assert_problem(answer, 503)["detail"]
    assert ("Retry-After" in answer.headers) == (detail == "nothing was changed")
    assert world.order.http.post("/orders", json=order_request(), headers=key).status_code == 201
    assert len(world.order.rows("orders")) == 1


@pytest.mark.parametrize(
    ("request_body", "pointer"),
    [
        (order_request(items=[]), "#/items"),
        (order_request(items=[{"sku": "mug", "quantity": 0}]), "#/items/0/quantity"),
        (order_request(items=[{"sku": "mug", "quantity": 1001}]), "#/items/0/quantity"),
        (order_request(items=[{"sku": "mug", "quantity": "2"}]), "#/items/0/quantity"),
        (order_request(items=[{"sku": "mug", "quantity": True}]), "#/items/0/quantity"),
        (order_request(items=[{"sku": "mug", "quantity": 1}] * 51), "#/items"),
        (order_request(items=[{"sku": "mug", "quantity": 1}, {"sku": "cup", "quantity": 1}]), "#/items/1/sku"),
        (order_request(items=[{"sku": "mug", "quantity": 1, "price": 1}]), "#/items/0/price"),
        (order_request(note="quick"), "#/note"),
        (order_request(customer_id=""), "#/customer_id"),
        (order_request(customer_id="a\u0000b"), "#/customer_id"),
        (order_request(destination="x" * 65), "#/destination"),
        ({}, "#/customer_id"),
        ([], "#"),
    ],
)
def test_invalid_order_is_rejected_with_a_pointer_to_the_error(world: World, request_body: Any, pointer: str) -> None:
    """The response is 422 and points at the invalid part; neither an order nor a key is stored."""
    answer = world.order.http.post("/orders", json=request_body, headers={"Idempotency-Key": "k"})
    assert pointer in [error["pointer"] for error in assert_problem(answer, 422)["errors"]]
    assert not world.order.rows("orders")
    assert not world.order.rows("idempotency_keys")
    assert not world.order.published()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"customer_id": "\\ud800"}', b"null"])
def test_body_that_is_not_a_json_object_is_rejected(world: World, content: bytes) -> None:
    """The response is 400 or 422, whatever the bytes are."""
    answer = world.order.http.post("/orders", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert_problem(answer, answer.status_code)


def test_repeated_request_with_the_same_key_creates_one_order(world: World) -> None:
    """The second response is 200 with the order's current state; the formatting of the JSON does not matter."""
    headers = {"Idempotency-Key": "k-1", "content-type": "application/json"}
    first = world.order.http.post("/orders", json=order_request(), headers=headers)
    world.settle()
    other = b'{"items": [{"quantity": 2, "sku": "mug"}],  "destination": "berlin", "customer_id": "ada"}'
    second = world.order.http.post("/orders", content=other, headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.headers["location"] == first.headers["location"]
    assert second.json()["status"] == "COMPLETED"
    assert len(world.order.rows("orders")) == 1


def test_another_request_with_the_same_key_is_a_conflict(world: World) -> None:
    """The response is 409, and no order is created."""
    headers = {"Idempotency-Key": "k-1"}
    world.order.http.post("/orders", json=order_request(), headers=headers)
    assert_problem(world.order.http.post("/orders", json=order_request(customer_id="pip"), headers=headers), 409)
    assert len(world.order.rows("orders")) == 1


def test_concurrent_requests_with_one_key_create_one_order(world: World) -> None:
    """One response is 201, the others are 200 with the same order; there is one order and one event."""
    count = 12
    answers: list[httpx.Response] = []
    together = threading.Barrier(count)

    def send() -> None:
        with httpx.Client(base_url=world.order.app_server.url, timeout=20) as client:
            together.wait(10)
            answers.append(client.post("/orders", json=order_request(), headers={"Idempotency-Key": "k-1"}))

    threads = [threading.Thread(target=send) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answer.status_code for answer in answers) == [200] * (count - 1) + [201]
    assert len({answer.json()["order_id"] for answer in answers}) == 1
    assert world.order.published() == ["OrderCreated"]


def test_empty_idempotency_key_is_rejected(world: World) -> None:
    """The response is 422 and names the header."""
    answer = world.order.http.post("/orders", json=order_request(), headers={"Idempotency-Key": ""})
    assert assert_problem(answer, 422)["errors"][0]["pointer"] == "idempotency-key"


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("order", f"/orders/{UNKNOWN_ID}"),
        ("order", f"/orders/{UNKNOWN_ID}/history"),
        ("inventory", "/inventory/products/cup"),
        ("payment", f"/payments/{UNKNOWN_ID}"),
        ("payment", "/payments/accounts/nobody"),
        ("shipping", f"/shipping/shipments/{UNKNOWN_ID}"),
        ("order", "/nothing/here"),
    ],
)
def test_missing_resource_is_not_found(world: World, service: str, path: str) -> None:
    """The response is 404, as a problem."""
    assert_problem(world.harnesses[service].http.get(path), 404)


def test_unsupported_methods_and_invalid_ids_are_problems(world: World) -> None:
    """An unsupported method is 405, and an invalid id is 422."""
    assert_problem(world.order.http.delete("/orders"), 405)
    assert_problem(world.order.http.get("/orders/1"), 422)


def test_the_history_names_the_event_behind_each_status(world: World) -> None:
    """PENDING names the order's own event, and each other status names the event that caused it."""
    order_id = world.place()
    world.settle()
    items = world.order.http.get(f"/orders/{order_id}/history").json()["items"]
    types = {row.id: row.type for harness in world.harnesses.values() for row in harness.rows("outbox")}
    events = [types[UUID(item["event_id"])] for item in items]
    assert events == ["OrderCreated", "InventoryReserved", "PaymentCompleted", "ShipmentScheduled"]
    assert [item["reason"] for item in items] == [None] * 4


def test_repeated_cancel_has_one_effect(world: World) -> None:
    """Each cancel returns 202, during the cancellation and afterwards, and only one event is published."""
    order_id = world.place()
    for _ in range(2):
        answer = world.order.http.post(f"/orders/{order_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "CANCELLING")
    world.settle()
    answer = world.order.http.post(f"/orders/{order_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "CANCELLED")
    assert answer.json()["failure_reason"] == "cancelled_by_customer"
    assert world.order.published().count("OrderCancelRequested") == 1


def test_cancel_after_the_pivot_is_rejected(world: World) -> None:
    """A cancel of a COMPLETED order returns 409, of an unknown order 404."""
    order_id = world.place()
    world.settle()
    assert_problem(world.order.http.post(f"/orders/{order_id}/cancel"), 409)
    assert_problem(world.order.http.post(f"/orders/{uuid4()}/cancel"), 404)


def test_orders_are_paginated_newest_first(world: World) -> None:
    """The pages contain each order once, even if orders are placed in between."""
    made = [str(world.place()) for _ in range(5)]
    first = world.order.http.get("/orders", params={"limit": 2}).json()
    world.place()
    second = world.order.http.get("/orders", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    third = world.order.http.get("/orders", params={"limit": 2, "cursor": second["next_cursor"]}).json()
    assert [item["order_id"] for page in (first, second, third) for item in page["items"]] == made[::-1]
    assert third["next_cursor"] is None


def test_orders_are_filtered_by_status_and_customer(world: World) -> None:
    """A filter returns only the matching orders, and an unknown status is rejected."""
    done, failed = world.place(), world.place(customer_id="pip")
    world.settle()

    def found(**params: str) -> list[str]:
        return [item["order_id"] for item in world.order.http.get("/orders", params=params).json()["items"]]

    assert found(status="COMPLETED") == [str(done)]
    assert found(customer_id="pip") == [str(failed)]
    assert found(status="PENDING") == []
    assert_problem(world.order.http.get("/orders", params={"status": "LOST"}), 422)
    assert_problem(world.order.http.get("/orders", params={"customer_id": "\x00"}), 422)


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("order", "/orders"),
        ("order", "/orders/{order_id}/history"),
        ("inventory", "/inventory/products"),
        ("inventory", "/inventory/reservations"),
        ("payment", "/payments"),
        ("shipping", "/shipping/shipments"),
    ],
)
def test_every_collection_is_paginated(world: World, service: str, path: str) -> None:
    """Pages of one item equal the whole collection; an invalid limit or cursor is rejected."""
    orders = [world.place(mug=1) for _ in range(3)]
    world.settle()
    path = path.format(order_id=orders[0])
    http = world.harnesses[service].http
    whole = http.get(path).json()
    assert len(whole["items"]) >= 3
    assert whole["next_cursor"] is None
    single: list[Any] = []
    cursor: str | None = ""
    while cursor is not None and len(single) <= len(whole["items"]):  # the pages might have no end
        page = http.get(path, params={"limit": 1, **({"cursor": cursor} if cursor else {})}).json()
        single += page["items"]
        cursor = page["next_cursor"]
    assert single == whole["items"]
    for params in ({"limit": "0"}, {"limit": "201"}, {"cursor": "?"}, {"cursor": "AA"}, {"cursor": "\x00"}):
        assert_problem(http.get(path, params=params), 422)


def test_restock_raises_the_stock_on_hand(world: World) -> None:
    """A restock raises the stock on hand, and is recorded as a movement."""
    world.place(mug=3)
    next(world.relay())
    answer = world.inventory.http.post("/inventory/products/mug/restock", json={"quantity": 5})
    assert answer.status_code == 200
    product = answer.json()
    assert product == world.inventory.http.get("/inventory/products/mug").json()
    assert product == {
        "sku": "mug",
        "name": "A mug",
        "unit_price_cents": 1250,
        "currency": "EUR",
        "on_hand": 105,
        "reserved": 3,
        "shipped": 0,
        "available": 102,
    }
    movements = [(row.effect, row.quantity) for row in world.inventory.rows("stock_movements", sku="mug")]
    assert movements == [("opening", 100), ("reserve", 3), ("restock", 5)]
    assert_problem(world.inventory.http.post("/inventory/products/cup/restock", json={"quantity": 5}), 404)
    assert_problem(world.inventory.http.post("/inventory/products/mug/restock", json={"quantity": 0}), 422)
    assert_problem(world.inventory.http.post("/inventory/products/mug/restock", json={"quantity": 1, "x": 1}), 422)


def test_a_deposit_raises_the_balance(world: World) -> None:
    """A deposit raises the balance and is recorded; a deposit to an unknown account returns 404."""
    answer = world.payment.http.post("/payments/accounts/pip/deposit", json={"amount_cents": 500})
    assert answer.json() == {"customer_id": "pip", "balance_cents": 1500, "currency": "EUR"}
    entries = [(row.effect, row.amount_cents) for row in world.payment.rows("ledger_entries", customer_id="pip")]
    assert entries == [("opening", 1000), ("deposit", 500)]
    assert_problem(world.payment.http.post("/payments/accounts/nobody/deposit", json={"amount_cents": 500}), 404)
    assert_problem(world.payment.http.post("/payments/accounts/pip/deposit", json={"amount_cents": 0}), 422)
    assert_problem(world.payment.http.post("/payments/accounts/pip/deposit", json={"amount_cents": 10**18}), 422)


def test_reservation_payment_and_shipment_are_found_by_order(world: World) -> None:
    """Reservation, payment with entries and shipment are found by order, and each also by its own id."""
    order_id = world.place(destination="utopia")
    world.place()
    world.settle()
    params = {"order_id": str(order_id)}
    [reservation] = world.inventory.http.get("/inventory/reservations", params=params).json()["items"]
    assert (reservation["status"], reservation["lines"]) == ("RELEASED", [{"sku": "mug", "quantity": 2}])
    [payment] = world.payment.http.get("/payments", params=params).json()["items"]
    assert (payment["status"], payment["amount_cents"], payment["customer_id"]) == ("REFUNDED", 2500, "ada")
    assert [(one["effect"], one["amount_cents"]) for one in payment["entries"]] == [("capture", 2500), ("refund", 2500)]
    assert world.payment.http.get(f"/payments/{payment['payment_id']}").json() == payment
    [shipment] = world.shipping.http.get("/shipping/shipments", params=params).json()["items"]
    assert (shipment["status"], shipment["failure_reason"], shipment["carrier"]) == ("FAILED", "no_carrier", None)
    assert world.shipping.http.get(f"/shipping/shipments/{shipment['shipment_id']}").json() == shipment


def test_tombstones_are_not_listed(world: World) -> None:
    """For an order that failed at once, payment and shipping keep a tombstone and list nothing."""
    order_id = world.place(gone=1)
    world.settle()
    assert [row.status for row in world.payment.rows("payments")] == ["TOMBSTONE"]
    params = {"order_id": str(order_id)}
    assert world.payment.http.get("/payments", params=params).json()["items"] == []
    assert world.shipping.http.get("/shipping/shipments", params=params).json()["items"] == []


def test_outbox_events_continue_the_incoming_trace(world: World) -> None:
    """The event's traceparent has the caller's trace id and a new span id; without a caller a new trace starts."""
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    world.order.http.post("/orders", json=order_request(), headers={"traceparent": caller})
    world.settle()
    for harness in world.harnesses.values():
        for row in harness.rows("outbox"):
            assert row.traceparent.split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
            assert row.traceparent.split("-")[2] != "b7ad6b7169203331"
    other = world.place()
    assert world.order.rows("outbox", aggregateid=other)[0].traceparent.split("-")[1] != caller.split("-")[1]


def test_each_event_names_the_event_that_caused_it(world: World) -> None:
    """The first event has no cause, and the causes of the last event lead back to it."""
    world.place()
    world.settle()
    rows = {row.id: row for harness in world.harnesses.values() for row in harness.rows("outbox")}
    row = next(row for row in rows.values() if row.type == OrderCompleted.type())
    chain = [row.type]
    while row.causation_id and len(chain) < 10:
        row = rows[row.causation_id]
        chain.append(row.type)
    assert chain == ["OrderCompleted", "ShipmentScheduled", "PaymentCompleted", "InventoryReserved", "OrderCreated"]


def test_metrics_count_requests_and_events_with_bounded_labels(world: World) -> None:
    """Requests are counted by route instead of path, and events by type and outcome."""
    for _ in range(2):
        world.inventory.http.get(f"/inventory/products/{uuid4()}")
        world.inventory.http.get(f"/{uuid4()}")
    event_id = uuid4()
    order = make_order_created()
    world.inventory.handle(order, event_id)
    world.inventory.handle(order, event_id)
    text = world.inventory.http.get("/metrics").text
    assert 'http_requests_total{method="GET",route="/inventory/products/{sku}",status="404"}' in text
    assert 'http_requests_total{method="GET",route="unmatched",status="404"}' in text
    assert 'http_request_duration_seconds_count{method="GET",route="/inventory/products/{sku}"}' in text
    assert 'events_total{outcome="handled",type="OrderCreated"}' in text
    assert 'events_total{outcome="duplicate",type="OrderCreated"}' in text


def test_counters_of_errors_start_at_zero(world: World) -> None:
    """Before the first error, each route's counters of errors exist, so that Prometheus sees the first one."""
    text = world.shipping.http.get("/metrics").text
    for status in (400, 404, 409, 413, 422, 500, 503):
        assert f'http_requests_total{{method="GET",route="/shipping/shipments",status="{status}"}} ' in text
    assert 'http_requests_total{method="GET",route="/shipping/shipments",status="413"} 0.0' in text


@pytest.mark.parametrize("service", ["order", "inventory", "payment", "shipping"])
def test_openapi_document_and_docs_page_are_available(world: World, service: str) -> None:
    """The OpenAPI document and its page are available; errors are documented as problems, management is left out."""
    http = world.harnesses[service].http
    document = http.get("/openapi.json").json()
    page = http.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert loaded
    for path in loaded:  # nothing from another host, because a workshop may have no network
        assert path.startswith("/")
        assert http.get(path).status_code == 200
    assert not [path for path in document["paths"] if path.startswith("/manage")]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path, calls in document["paths"].items():
        for call in calls.values():
            for status, answer in call["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"], (path, status)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("53100", "has no disk space left"),
        ("53300", "accepts no more connections"),
        ("25006", "accepts no writes now"),
        ("57P03", "is starting up or shutting down"),
        ("40P01", "is too busy"),
    ],
)
def test_answer_says_why_the_database_is_unavailable(world: World, code: str, reason: str) -> None:
    """A 503 names the reason, for example a full disk, and a later request succeeds."""
    body = f"BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END"
    with world.order.runtime.database.engine.begin() as connection:
        connection.execute(text(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $${body}$$"))
        connection.execute(text("CREATE TRIGGER refuse BEFORE INSERT ON orders EXECUTE FUNCTION refuse()"))
    try:
        problem = assert_problem(world.order.http.post("/orders", json=order_request()), 503)
    finally:
        with world.order.runtime.database.engine.begin() as connection:
            connection.execute(text("DROP FUNCTION refuse() CASCADE"))
    assert problem["detail"].startswith(f"the service's database {reason};")
    assert world.order.http.post("/orders", json=order_request()).status_code == 201


def test_refused_connection_has_its_reason(server: PostgresServer) -> None:
    """The client library reports no error class for a refused connection, so its text decides."""
    url = server.create_database("crowded")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
        connection.execute("ALTER DATABASE crowded CONNECTION LIMIT 0")
    with pytest.raises(OperationalError) as refused:
        make_engine(url.replace("postgres@", "guest@")).connect()
    reported = unavailable(refused.value)
    assert reported
    assert reported.reason == "accepts no more connections"
