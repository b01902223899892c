"""The time from an event's commit to its consumer, compared with three references measured in the same run.

The benchmark measures one relay after another, on the same databases and broker, with the same rows at the same modest
rate, at random times:

* the lab's connectors, as configured in ``lab-stack/connect``,
* the same connectors with Debezium's own defaults wherever the lab chose another value for latency,
* the polling relay that a Python user would choose (see `polling.py`),
* the floor: only logical decoding and one Kafka round trip (see `floor.py`).

It also measures the bare five-hop chain (see `chain.py`), the reference of the saga.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from confluent_kafka import Message
from rich.console import Console
from rich.table import Table

from benchmarks.arrivals import record_arrivals, text_headers, wait_for_all
from benchmarks.bare import BareRelay, bare_relay
from benchmarks.chain import run_chain
from benchmarks.figures import Latency
from benchmarks.floor import measure_floor
from benchmarks.helper import helper
from benchmarks.polling import measure_polling
from benchmarks.row_load import write_rows
from labstack.clients import http
from labstack.clients.relay import connector_config, connector_name
from labstack.waiting import poll_until

RATE = 10.0
"""Rows per second in each outbox."""

POLLING_RATE = 2.0
"""The same for the polling relay: its defaults (ten rows per poll, one second between polls) allow at most 10."""

CHOSEN_FOR_LATENCY = ("poll.interval.ms", "max.batch.size")
"""Connector settings that the stock configuration leaves at their defaults."""


def measure(*, quick: bool, console: Console, rounds: int = 3) -> dict[str, Any]:
    """Measure every relay in turn; the lab's and the stock settings so many times."""
    rounds, seconds, skip = (1, 6.0, 2.0) if quick else (rounds, 25.0, 5.0)
    lab: dict[str, list[float]] = {}
    stock: dict[str, list[float]] = {}
    with bare_relay() as bare:
        bare.start()
        for number in range(1, rounds + 1):
            # Each connector has two timers. Their phases are fixed at its start and account for much of the
            # latency, so each round restarts the connectors.
            console.print(f"round {number}: the lab's settings ...")
            _configure(bare, stock=False)
            _add(lab, _hops(bare, seconds, skip))
            console.print(f"round {number}: stock settings ...")
            _configure(bare, stock=True)
            _add(stock, _hops(bare, seconds, skip))
        _configure(bare, stock=False)
        chain = run_chain(bare, RATE, seconds, skip)
        _remove_connectors(bare)
        console.print("the floor ...")
        floor = measure_floor(bare, RATE, seconds, skip)
        polling = {}
        for driver in ("psycopg", "asyncpg"):
            if importlib.util.find_spec(driver):
                console.print(f"polling with {driver} ...")
                polling[driver] = measure_polling(bare, driver, POLLING_RATE, 2 * seconds, skip)
    all_lab, all_stock = (Latency.of(s for hop in one.values() for s in hop) for one in (lab, stock))
    return {
        "quick": quick,
        "rate_per_outbox": RATE,
        "rate_of_polling": POLLING_RATE,
        "seconds": rounds * (seconds - skip),
        "lab_ms": {"all": all_lab, **{name: Latency.of(sample) for name, sample in lab.items()}},
        "stock_ms": {"all": all_stock, **{name: Latency.of(sample) for name, sample in stock.items()}},
        "polling_ms": {driver: Latency.of(sample) for driver, sample in polling.items()},
        "floor_ms": {name: Latency.of(sample) for name, sample in floor.items()},
        "five_hops_ms": Latency.of(chain),
        "stock_p50_by_lab_p50": all_stock.p50 / all_lab.p50,
    }


def _hops(bare: BareRelay, seconds: float, skip: float) -> dict[str, list[float]]:
    """Return the latencies of each service's hop."""
    arrived: dict[str, tuple[str, float]] = {}
    topics = {service.events_topic: service.name for service in bare.services}

    def on_arrival(message: Message, at: float) -> None:
        row = text_headers(message).get("ce_id", "")
        arrived.setdefault(row, (topics[message.topic() or ""], at))

    with (
        record_arrivals(bare.kafka.address, list(topics), on_arrival),
        helper(write_rows, bare.urls, RATE, seconds) as writer,
    ):
        committed: dict[str, float] = writer.result(seconds + 30)
        if not wait_for_all(lambda: len(arrived), len(committed), 15):
            raise RuntimeError(f"{len(committed) - len(arrived)} rows did not become records")
    counts_from = min(committed.values()) + skip
    latencies: dict[str, list[float]] = {name: [] for name in bare.urls}
    for row, at in committed.items():
        if at >= counts_from:
            service, seen = arrived[row]
            latencies[service].append(seen - at)
    return latencies


def _add(all_of_them: dict[str, list[float]], these: dict[str, list[float]]) -> None:
    for name, sample in these.items():
        all_of_them.setdefault(name, []).extend(sample)


def _configure(bare: BareRelay, *, stock: bool) -> None:
    """Apply the lab's or stock settings to the connectors, restart them, and wait until each has relayed a row."""
    for service, database in bare.databases.items():
        config = connector_config(database.server)
        if stock:
            config = {key: value for key, value in config.items() if key not in CHOSEN_FOR_LATENCY}
        address = f"{bare.connect.url}/connectors/{connector_name(service)}"
        _retry_request("PUT", f"{address}/config", config)
        _retry_request("POST", f"{address}/restart?includeTasks=true")
    _hops(bare, 2.0, 0.0)


def _retry_request(method: str, address: str, body: dict[str, str] | None = None) -> None:
    """Repeat a request to Connect while it is busy with an earlier one."""

    def send() -> bool:
        return http.request(method, address, json=body, timeout=10).status_code < 400

    if not poll_until(send, 30, interval=0.1):
        raise RuntimeError(f"Connect did not take {method} {address}")


def _remove_connectors(bare: BareRelay) -> None:
    for service in bare.urls:
        _retry_request("DELETE", f"{bare.connect.url}/connectors/{connector_name(service)}")


def show(results: dict[str, Any], console: Console) -> None:
    """Print the table."""
    title = f"Commit → consumer in ms, {results['rate_per_outbox']:.0f} rows/s in each outbox"
    table = Table("relay", "hop", "n", "p50", "p95", "p99", "most", title=title)
    for relay, key in (("the lab's settings", "lab_ms"), ("stock settings", "stock_ms")):
        for hop, latency in results[key].items():
            table.add_row(relay, hop, *latency.cells())
    rate = f"{results['rate_of_polling']:.0f} rows/s"
    names = {"psycopg": f"polls only (psycopg), {rate}", "asyncpg": f"woken by NOTIFY (asyncpg), {rate}"}
    for driver, latency in results["polling_ms"].items():
        table.add_row("faststream-outbox", names[driver], *latency.cells())
    names = {"whole": "decoding + Kafka", "decoding": "  of which decoding", "kafka": "  of which Kafka"}
    for part, latency in results["floor_ms"].items():
        table.add_row("the floor", names[part], *latency.cells())
    table.add_row("the lab's settings", "five hops in a chain", *results["five_hops_ms"].cells(), style="bold")
    console.print(table)
    console.print(f"stock p50 / lab p50 = {results['stock_p50_by_lab_p50']:.1f} (15 at least)")
