"""Requests that the HTTP APIs refuse: foreign hosts and pages, and requests that are too large or too slow."""

import json
import select
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import httpx
import pytest

from labservices.http import limits, protocol
from labservices.origins import CheckedHandler, is_own_host, refusal
from tests.services.test_http import assert_problem, order_request
from tests.services.world import World

PAGE_OF_ERRORS = 10_000
"""Upper limit for the size of an error response in bytes."""


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8101", "localhost.evil.example", "127.0.0.1.nip.io", "1.2", "a@127.0.0.1", "", "::"],
)
def test_foreign_hosts_are_refused(world: World, host: str) -> None:
    """A request that names another host is 403, whatever its method and path are."""
    for method, path in [("GET", "/orders"), ("POST", "/orders"), ("POST", "/manage/consumer/pause"), ("GET", "/docs")]:
        assert_problem(world.order.http.request(method, path, headers={"Host": host}), 403)
    assert not world.order.rows("orders")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://127.0.0.1.evil.example", "null", "file://", "x", "http://6.6.6.6"]
)
def test_foreign_pages_change_nothing(world: World, origin: str) -> None:
    """A change that a foreign web page asks for is 403, and has no effect."""
    before = world.order.http.get("/manage/consumer").json()
    paths = ["/orders", "/manage/consumer/pause", "/manage/consumer/resume", "/manage/dead-letters/1/discard"]
    for path in paths:
        headers = {"Origin": origin, "Content-Type": "text/plain"}
        assert_problem(world.order.http.post(path, content=json.dumps(order_request()), headers=headers), 403)
    assert world.order.http.get("/manage/consumer").json() == before
    assert not world.order.rows("orders")


def test_the_gateway_may_serve_any_host(world: World) -> None:
    """A request that the gateway forwards may name any host, but not on a management route or from a foreign page."""
    headers = {"Host": "shop.example", "X-Forwarded-Proto": "http"}
    http = world.order.http
    assert http.get("/orders", headers=headers).status_code == 200
    assert http.post("/orders", json=order_request(), headers=headers).status_code == 201
    assert_problem(http.post("/manage/consumer/pause", headers=headers), 403)
    assert_problem(http.post("/orders", json=order_request(), headers=headers | {"Origin": "http://evil.example"}), 403)


@pytest.mark.parametrize("origin", ["http://localhost:8888", "http://127.0.0.1:8080", "http://[::1]:1"])
def test_pages_of_this_machine_are_served(world: World, origin: str) -> None:
    """A page of this machine, such as the one under /docs, may place an order."""
    assert world.order.http.post("/orders", json=order_request(), headers={"Origin": origin}).status_code == 201


@pytest.mark.parametrize("host", ["localhost:8101", "127.0.0.1", "[::1]:8101", "10.0.0.7:8000", "order:8000", "ORDER"])
def test_own_hosts_are_addresses_and_names_without_a_dot(host: str) -> None:
    """A browser, the gateway and Prometheus reach a service by address, or by the name of its container."""
    assert is_own_host(host)


def test_a_hub_serves_pages_under_its_own_name() -> None:
    """Behind a hub, every host is accepted, and changes only from pages of the same host."""
    assert refusal("POST", "hub.example", "https://hub.example", ["*"]) is None
    assert refusal("POST", "hub.example", None, ["hub.example"]) is None
    assert refusal("POST", "localhost:8101", "https://hub.example", ["hub.example"]) is None
    assert "evil" in str(refusal("POST", "hub.example", "https://evil.example", ["*"]))
    assert "hub" in str(refusal("GET", "hub.example", None, ["other.example"]))


def test_servers_of_pages_check_each_request() -> None:
    """A server with `CheckedHandler` refuses foreign hosts and pages, and answers HEAD without a body."""

    class Handler(CheckedHandler):
        def do_GET(self) -> None:
            self.answer(b"page", "text/plain")

        do_POST = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}") as client:
            assert client.get("/").text == "page"
            assert (client.head("/").status_code, client.head("/").headers["content-length"]) == (200, "4")
            assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
            assert client.post("/", headers={"Origin": "http://evil.example"}).status_code == 403
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "body",
    [
        b"{" + b",".join(b'"%x":0' % number for number in range(90_000)) + b"}",
        b'{"items":[{' + b",".join(b'"%x":0' % number for number in range(90_000)) + b"}]}",
        b'{"items":[' + b",".join([b'{"a":0,"b":0}'] * 50) + b"]}",
        b'{"items":[' + b",".join([b"{}"] * 300_000) + b"]}",
        b'{"' + b"x" * 900_000 + b'":0}',
        b'{"customer_id":"' + b"x" * 900_000 + b'"}',
        b"[" * 900_000,
    ],
    ids=["fields", "fields of an item", "items", "many items", "long name", "long value", "deep"],
)
def test_invalid_body_gets_at_most_a_page_of_errors(world: World, body: bytes) -> None:
    """The response to an invalid body of nearly 1 MB lists at most 20 errors in at most 10 KB."""
    answer = world.order.http.post("/orders", content=body, headers={"content-type": "application/json"})
    assert len(answer.content) < PAGE_OF_ERRORS
    assert answer.status_code in (400, 422)
    assert len(assert_problem(answer, answer.status_code).get("errors", ())) <= 20


def test_body_over_a_megabyte_is_too_large(world: World) -> None:
    """The response is 413 for a declared length and for a body in chunks, and the connection stays usable."""
    body = b" " * (limits.MAX_BODY_BYTES + 1)
    assert_problem(world.order.http.post("/orders", content=body), 413)
    assert_problem(world.order.http.post("/orders", content=iter([body[:500_000]] * 3)), 413)
    assert world.order.http.post("/orders", json=order_request()).status_code == 201
    assert_problem(
        world.order.http.post("/orders", content=body[1:], headers={"content-type": "application/json"}), 422
    )


def test_large_headers_are_refused(world: World) -> None:
    """Headers or a path of more than 64 KB are 431."""
    assert world.order.http.get("/orders", headers={"x": "y" * 70_000}).status_code == 431
    query = {"customer_id": "y" * 60_000}
    assert world.order.http.get("/orders", params=query, headers={"x": "y" * 10_000}).status_code == 431


@pytest.fixture
def connection(world: World) -> Iterator[socket.socket]:
    with socket.create_connection(world.order.app_server.address, timeout=10) as connection:
        yield connection


def test_header_without_end_is_refused(connection: socket.socket) -> None:
    """A header that does not end is 431 after 64 KB, and the connection is closed."""
    connection.sendall(b"GET /orders HTTP/1.1\r\nhost: localhost\r\nx: ")
    with pytest.raises(ConnectionError):
        connection.sendall(b"y" * 100_000_000)


def test_request_without_end_is_cut(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """A connection is closed if its request is incomplete after ten seconds."""
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.2)
    with socket.create_connection(world.order.app_server.address, timeout=10) as connection:
        connection.sendall(b"GET /orders HTTP/1.1\r\nhost: localhost\r\nx: ")
        assert connection.recv(1) == b""


def test_connection_without_a_request_is_closed(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """A connection that never sends a byte is closed in the end."""
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 0.2)
    with socket.create_connection(world.order.app_server.address, timeout=10) as connection:
        assert connection.recv(1) == b""


def test_idle_connection_is_closed_after_the_services_limit(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """After a response, the limit for idle connections holds, and not uvicorn's five seconds."""
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 0.2)
    with socket.create_connection(world.order.app_server.address, timeout=2) as connection:
        connection.sendall(b"GET /healthz/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b"".join(iter(lambda: connection.recv(4096), b"")).startswith(b"HTTP/1.1 200 ")


def test_body_without_end_times_out(monkeypatch: pytest.MonkeyPatch, connection: socket.socket) -> None:
    """A body that does not arrive within three seconds is 408."""
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    connection.sendall(UNFINISHED)
    assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


UNFINISHED = (
    b"POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
)


def test_bodies_without_end_delay_no_other_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order is accepted while the service still waits for the rest of each of 300 bodies."""
    monkeypatch.setattr(limits, "BODY_SECONDS", 120.0)
    connections = [socket.create_connection(world.order.app_server.address, timeout=10) for _ in range(300)]
    try:
        for connection in connections:
            connection.sendall(UNFINISHED)
        assert world.order.http.post("/orders", json=order_request()).status_code == 201
        assert select.select(connections, [], [], 0)[0] == []  # none is refused or closed yet
    finally:
        for connection in connections:
            connection.close()


def test_form_is_refused_with_its_content_type(world: World) -> None:
    """The response to `curl -d` without a header names the content type that it sent."""
    content = json.dumps(order_request())
    for kind in ("application/x-www-form-urlencoded", "text/plain"):
        answer = world.order.http.post("/orders", content=content, headers={"content-type": kind})
        error = assert_problem(answer, 422)["errors"][0]
        assert error == {"pointer": "content-type", "detail": f"expected application/json, found {kind}"}


def test_head_answers_as_get_without_a_body(world: World) -> None:
    """HEAD has the status and the headers of GET."""
    paths = ["/orders", f"/orders/{world.place()}", "/orders/1", "/healthz/live", "/metrics", "/docs", "/none"]
    for path in paths:
        head, get = world.order.http.head(path), world.order.http.get(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/openmetrics-text; version=abc", "application/openmetrics-text"),
        ("application/openmetrics-text;version=", "application/openmetrics-text"),
        ("application/openmetrics-text;version=9.9;escaping=x,*/*", "application/openmetrics-text"),
        ("text/plain;version=x.y", "text/plain"),
        (";,=;", "text/plain"),
        ("", "text/plain"),
    ],
)
def test_metrics_have_a_format_for_every_accept_header(world: World, accept: str, kind: str) -> None:
    """An odd `Accept` gets the metrics, in OpenMetrics if it names OpenMetrics."""
    answer = world.order.http.get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    assert answer.text.endswith("# EOF\n") == (kind != "text/plain")


def test_client_that_closes_the_connection_leaves_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """If a client resets the connection before it has read the response, the server prints no stack trace."""
    ended = threading.Event()

    class Large(CheckedHandler):
        def do_GET(self) -> None:
            self.answer(bytes(50_000_000), "text/plain")

        def finish(self) -> None:
            super().finish()
            ended.set()

    with ThreadingHTTPServer(("127.0.0.1", 0), Large) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with socket.create_connection(("127.0.0.1", server.server_port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset at close
            client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            client.recv(1)
        assert ended.wait(10)
        server.shutdown()
    assert capsys.readouterr().err == ""
