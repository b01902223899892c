"""A service as a process: its settings, its startup, its behavior without a database, and its shutdown."""

import http.client
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import psycopg
import pytest

from labservices import inventory
from tests.services.kafka import KafkaBroker
from tests.services.ports import free_port
from tests.services.postgres import PostgresServer, postgres_server
from tests.services.world import NO_BROKER, make_order_created, record_of

ORDER = {"customer_id": "ada", "destination": "berlin", "items": [{"sku": "mug", "quantity": 1}]}


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Poll until the condition holds, and fail if it does not hold in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.02)


class Process:
    """A running ``python -m labservices``."""

    def __init__(self, *arguments: str, log: Path, **environment: str | int | Path) -> None:
        self.port = free_port()
        self.log = log
        variables = {"LAB_KAFKA_BOOTSTRAP_SERVERS": NO_BROKER, "LAB_HTTP_PORT": self.port} | environment
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "labservices", *arguments],
                env={"PATH": os.environ["PATH"], **{name: str(value) for name, value in variables.items()}},
                stdout=output,
                stderr=output,
            )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)

    def status(self, path: str) -> int | None:
        """Return the HTTP status of a path, or None while the port is closed."""
        try:
            return self.http.get(path).status_code
        except httpx.TransportError:
            return None

    def terminate(self) -> tuple[int, float]:
        """Send SIGTERM, and return the exit status and the duration in seconds."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10), time.monotonic() - started


@contextmanager
def running(*arguments: str, log: Path, **environment: str | int | Path) -> Iterator[Process]:
    process = Process(*arguments, log=log, **environment)
    try:
        yield process
    finally:
        process.http.close()
        if process.process.poll() is None:
            process.process.kill()
        process.process.wait(10)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server that the test may stop."""
    with postgres_server() as running_server:
        yield running_server


def test_missing_and_invalid_settings_are_named(log: Path) -> None:
    """The exit status is 2, and the message names each invalid setting."""
    with running("order", log=log, LAB_KAFKA_BOOTSTRAP_SERVERS="here", LAB_HTTP_PORT="many") as process:
        assert process.process.wait(20) == 2
    text = log.read_text()
    for name in (
        "LAB_DATABASE_URL is missing",
        "LAB_DATASETS_DIR is missing",
        "LAB_KAFKA_BOOTSTRAP_SERVERS is invalid",
        "LAB_HTTP_PORT is invalid",
    ):
        assert name in text
    assert "Traceback" not in text


def test_unknown_service_is_rejected(log: Path) -> None:
    """The message lists the existing services."""
    with running("billing", log=log) as process:
        assert process.process.wait(20) == 2
    assert "'inventory', 'order', 'payment', 'shipping'" in log.read_text()


def test_invalid_dataset_stops_the_service_and_names_the_row(server: PostgresServer, tmp_path: Path, log: Path) -> None:
    """The exit status is 1, and the database remains empty."""
    (tmp_path / "products.csv").write_text("sku,name,unit_price_cents,currency,on_hand\nmug,A mug,cheap,EUR,1\n")
    url = server.create_database("bad_dataset")
    with running("inventory", log=log, LAB_DATABASE_URL=url, LAB_DATASETS_DIR=tmp_path) as process:
        assert process.process.wait(20) == 1
    assert "products.csv" in log.read_text()
    assert "unit_price_cents" in log.read_text()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_incompatible_tables_stop_the_service(server: PostgresServer, datasets: Path, log: Path) -> None:
    """The exit status is 1, the log names the next step, and the rows are unchanged."""
    url = server.create_database("other_shape")
    with running("inventory", log=log, LAB_DATABASE_URL=url, LAB_DATASETS_DIR=datasets) as process:
        wait_until(lambda: process.status("/healthz/ready") == 200)
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT * FROM products ORDER BY sku").fetchall()
        connection.execute("COMMENT ON PUBLICATION outbox IS 'shape of long ago'")
    with running("inventory", log=log, LAB_DATABASE_URL=url, LAB_DATASETS_DIR=datasets) as process:
        assert process.process.wait(20) == 1
    assert "`lab down --purge`" in log.read_text()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT * FROM products ORDER BY sku").fetchall() == rows


def test_service_starts_without_its_database_and_recovers(
    own_server: PostgresServer, datasets: Path, log: Path
) -> None:
    """A service is live at once, and becomes ready and accepts orders as soon as its database is available.

    When the database is unavailable again it returns 503. When the database is back it recovers by itself, without a
    further failure.
    """
    url = own_server.create_database("order")
    own_server.stop()
    with running("order", log=log, LAB_DATABASE_URL=url, LAB_DATASETS_DIR=datasets) as process:
        wait_until(lambda: process.status("/healthz/live") == 200)
        answer = process.http.get("/healthz/ready")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"].startswith("database: ")
        assert process.http.post("/orders", json=ORDER).status_code == 503

        own_server.start()
        wait_until(lambda: process.status("/healthz/ready") == 200)
        ready = process.http.get("/healthz/ready").json()
        assert ready["status"] == "degraded"  # no broker exists
        assert ready["checks"]["database"] == "ok"
        assert ready["checks"]["broker"] != "ok"
        assert process.http.post("/orders", json=ORDER).status_code == 201
        with psycopg.connect(url) as connection:
            published = connection.execute("SELECT tablename FROM pg_publication_tables WHERE pubname = 'outbox'")
            assert published.fetchall() == [("outbox",)]

        own_server.stop()
        answer = process.http.post("/orders", json=ORDER)
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert process.status("/healthz/ready") == 503
        assert process.status("/healthz/live") == 200
        own_server.start()
        assert process.http.post("/orders", json=ORDER).status_code == 201
        assert len(process.http.get("/orders").json()["items"]) == 2

        assert process.terminate()[0] == 0


def test_no_event_is_lost_if_the_service_dies_while_its_database_is_unavailable(
    own_server: PostgresServer, datasets: Path, log: Path
) -> None:
    """An event that a service could not handle before it was killed is handled when service and database are back."""
    url = own_server.create_database("inventory")
    broker = KafkaBroker(*inventory.service.topics)
    settings: dict[str, str | Path] = {
        "LAB_DATABASE_URL": url,
        "LAB_DATASETS_DIR": datasets,
        "LAB_KAFKA_BOOTSTRAP_SERVERS": broker.address,
    }
    with closing(broker):
        with running("inventory", log=log, **settings) as process:
            wait_until(lambda: process.status("/healthz/ready") == 200)
            wait_until(lambda: bool(process.http.get("/manage/consumer").json()["assigned"]))
            own_server.stop()
            broker.write(*(record_of(make_order_created()) for _ in range(2)))
            waits: list[float] = []

            def is_retried() -> bool:
                for one in process.http.get("/manage/consumer").json()["held"]:
                    waits.append(one["retry_in_seconds"])
                return any(later > earlier for earlier, later in pairwise(waits))

            wait_until(is_retried)
            process.process.kill()
        assert broker.committed("inventory", "order.events") == [None, None]
        own_server.start()
        with running("inventory", log=log, **settings), psycopg.connect(url, autocommit=True) as connection:
            count = "SELECT count(*) FROM inbox"
            wait_until(lambda: connection.execute(count).fetchone() == (2,))
            wait_until(lambda: broker.committed("inventory", "order.events") == [2, None])


def test_connections_broken_by_a_restart_are_not_reused(own_server: PostgresServer, datasets: Path, log: Path) -> None:
    """A restart of the database server between two requests makes neither fail."""
    url = own_server.create_database("order")
    with running("order", log=log, LAB_DATABASE_URL=url, LAB_DATASETS_DIR=datasets) as process:
        wait_until(lambda: process.status("/healthz/ready") == 200)
        for _ in range(2):
            assert process.http.post("/orders", json=ORDER).status_code == 201
            own_server.stop()
            own_server.start()
        assert process.http.post("/orders", json=ORDER).status_code == 201


def test_hanging_database_blocks_neither_requests_nor_shutdown(
    own_server: PostgresServer, datasets: Path, log: Path
) -> None:
    """If the database hangs, a request returns 503 in time, liveness stays up, and SIGTERM stops the service."""
    url = own_server.create_database("order")
    with running("order", log=log, LAB_DATABASE_URL=url, LAB_DATASETS_DIR=datasets) as process:
        wait_until(lambda: process.status("/healthz/ready") == 200)
        with own_server.frozen():
            started = time.monotonic()
            answer = process.http.post("/orders", json=ORDER)
            assert answer.status_code == 503
            assert time.monotonic() - started < 8
            assert process.status("/healthz/live") == 200
            assert process.status("/healthz/ready") == 503
            assert process.terminate()[1] < 6


@pytest.mark.parametrize("arguments", [["shipping"], ["shipping", "--consumer-only"]])
def test_two_processes_start_together_and_stop_on_sigterm(
    server: PostgresServer, datasets: Path, tmp_path: Path, arguments: list[str]
) -> None:
    """Two processes create the schema once between them, and SIGTERM stops each of them."""
    url = server.create_database(f"two_{len(arguments)}")
    first, second = tmp_path / "first", tmp_path / "second"
    with (
        running(*arguments, log=first, LAB_DATABASE_URL=url, LAB_DATASETS_DIR=datasets) as one,
        running(*arguments, log=second, LAB_DATABASE_URL=url, LAB_DATASETS_DIR=datasets) as two,
    ):
        wait_until(lambda: all("shipping consumes" in log.read_text() for log in (first, second)))
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM destinations").fetchone() == (2,)
        for process in (one, two):
            status, seconds = process.terminate()
            assert status == 0
            assert seconds < 6  # its own limit is two seconds; the machine may be overloaded


@pytest.mark.long
def test_an_idle_connection_stays_open_until_the_service_stops(
    server: PostgresServer, datasets: Path, log: Path
) -> None:
    """A service does not close an idle connection after uvicorn's usual 5 s; one that is open delays no shutdown."""
    url = server.create_database("idle")
    with running("order", log=log, LAB_DATABASE_URL=url, LAB_DATASETS_DIR=datasets) as process:
        wait_until(lambda: process.status("/healthz/live") == 200)
        with closing(http.client.HTTPConnection("127.0.0.1", process.port, timeout=10)) as client:
            client.request("GET", "/healthz/live")
            assert client.getresponse().read()
            assert select.select([client.sock], [], [], 6)[0] == []
            assert process.terminate()[1] < 6


def test_the_consumer_is_paused_and_resumed_over_http(server: PostgresServer, datasets: Path, log: Path) -> None:
    """A pause returns after the consumer has left its group; a second pause or resume is not an error."""
    url = server.create_database("paused")
    with running("payment", log=log, LAB_DATABASE_URL=url, LAB_DATASETS_DIR=datasets) as process:
        wait_until(lambda: log.exists() and "payment consumes" in log.read_text())
        for _ in range(2):
            assert process.http.post("/manage/consumer/pause").json()["state"] == "paused"
        for _ in range(2):
            assert process.http.post("/manage/consumer/resume").status_code == 200
        wait_until(lambda: process.http.get("/manage/consumer").json()["state"] == "joining the group")
        assert log.read_text().count("payment consumes") == 2
