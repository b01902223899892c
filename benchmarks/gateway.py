"""The latency that the gateway adds, and the delay of configuration changes, for each installed control plane.

1. The same requests, 200 per second, to the service itself and through the gateway, alternating every second.
2. A hundred changes of a route, one after another: the time from `lab.mesh.apply`, and from the moment at which the
   control plane receives the checked configuration, to the first response that shows the change.
3. The requests that failed meanwhile: a second client queries the order service all the time.
"""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Latency
from benchmarks.own_lab import own_lab
from labstack.config.paths import LabPaths
from labstack.gateway.steering import IstiodSteering, TranslatorSteering
from labstack.install import find_program
from labstack.lab import Lab

RATE = 200.0
"""Requests per second in the first part."""

PATH = "/inventory/products/earl-grey"
PROBE = "/benchmark"
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: benchmark}}
spec:
  hosts: ["*"]
  gateways: [lab-gateway]
  http:
  - match: [{{uri: {{exact: {path}}}}}]
    directResponse: {{status: 200, body: {{string: "{number}"}}}}
"""


def measure(*, quick: bool, console: Console) -> dict[str, Any]:
    """Measure each control plane that is installed on this machine, one after another."""
    planes = ["translator", *(["istiod"] if not quick and find_program("istiod", LabPaths.of_user()) else [])]
    seconds, changes = (2, 5) if quick else (15, 100)
    return {"quick": quick, "planes": {plane: _measure_one(plane, seconds, changes, console) for plane in planes}}


def _measure_one(plane: str, seconds: int, changes: int, console: Console) -> dict[str, Any]:
    with patch.dict(os.environ, {"LAB_CONTROL_PLANE": plane}), own_lab() as lab:
        lab.up()
        console.print(f"{plane}: {seconds} s to the service and {seconds} s through the gateway, in turn")
        direct, through = _compare(lab, seconds)
        console.print(f"{plane}: {changes} changes")
        called, handed, answered, failed = _change(lab, changes)
    added = Latency.of(through).p50 - Latency.of(direct).p50
    return {
        "direct_ms": Latency.of(direct),
        "through_ms": Latency.of(through),
        "added_p50_ms": added,
        "apply_to_answer_ms": Latency.of(called),
        "edit_to_answer_ms": Latency.of(handed),
        "requests_meanwhile": answered,
        "failed_meanwhile": failed,
    }


def _compare(lab: Lab, seconds: int) -> tuple[list[float], list[float]]:
    """Send requests at a steady rate, alternating between both targets every second; return how long each took."""
    took: dict[str, list[float]] = {}
    urls = (lab.endpoints.services["inventory"], lab.endpoints.gateway)
    connections = {url: _connection(url) for url in urls}
    for url in urls:  # warm up before the measurement
        _send(connections[url], int(RATE / 4))
    for _ in range(seconds):
        for url in urls:
            took.setdefault(url, []).extend(_send(connections[url], int(RATE)))
    return took[urls[0]], took[urls[1]]


def _connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=10)


def _send(connection: http.client.HTTPConnection, times: int) -> list[float]:
    took = []
    due = time.perf_counter()
    for _ in range(times):
        time.sleep(max(0.0, due - time.perf_counter()))
        due += 1 / RATE
        began = time.perf_counter()
        status, _ = _get(connection, PATH)
        took.append(time.perf_counter() - began)
        if status != 200:
            raise RuntimeError(f"{PATH} was answered with {status}")
    return took


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def _change(lab: Lab, changes: int) -> tuple[list[float], list[float], int, int]:
    """Change a route repeatedly while a client requests another route.

    Returns
    -------
    tuple
        Seconds from each call, and from its arrival at the control plane, to the first response that shows the change;
        the number of the client's requests, and how many of them failed.
    """
    called, handed = [], []
    edit_times: list[float] = []

    with _client(lab.endpoints.gateway) as (answered, failed):
        for number in range(changes):
            began = time.perf_counter()
            with _polling(lab.endpoints.gateway, str(number)) as seen, _recording_edits(edit_times):
                lab.mesh.apply(ROUTE.format(path=PROBE, number=number))
            called.append(seen[0] - began)
            handed.append(seen[0] - edit_times[-1])
    return called, handed, len(answered), len(failed)


@contextmanager
def _recording_edits(edit_times: list[float]) -> Iterator[None]:
    """Record the time at which a control plane receives a configuration."""

    def recording(original: Any) -> Any:
        def put(self: Any, *arguments: Any) -> Any:
            edit_times.append(time.perf_counter())
            return original(self, *arguments)

        return put

    with ExitStack() as stack:
        for steering in (TranslatorSteering, IstiodSteering):
            stack.enter_context(patch.object(steering, "put", recording(steering.put)))
        yield


@contextmanager
def _polling(gateway: str, wanted: str) -> Iterator[list[float]]:
    """Poll the changing route; after the block, the list contains the time of the first new response."""
    seen: list[float] = []
    deadline = time.perf_counter() + 20

    def poll() -> None:
        connection = _connection(gateway)
        while not seen and time.perf_counter() < deadline:
            if _get(connection, PROBE)[1].decode() == wanted:
                seen.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=poll)
    thread.start()
    yield seen
    thread.join()
    if not seen:
        raise RuntimeError("a change did not act within 20 s")


@contextmanager
def _client(gateway: str) -> Iterator[tuple[list[int], list[int]]]:
    """Query the order service fifty times per second during the block; collect all statuses, and those of failures."""
    answered: list[int] = []
    failed: list[int] = []
    ended = threading.Event()

    def poll() -> None:
        connection = _connection(gateway)
        while not ended.wait(0.02):
            try:
                status, _ = _get(connection, "/orders?limit=1")
            except (OSError, http.client.HTTPException):
                status = 0
                with suppress(OSError):
                    connection.close()
            answered.append(status)
            if status != 200:
                failed.append(status)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield answered, failed
    finally:
        ended.set()
        thread.join()


def show(results: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    table = Table("control plane", "", "n", "p50", "p95", "p99", "most", title="Milliseconds")
    rows = {
        "direct_ms": "to the service itself",
        "through_ms": "through the gateway",
        "apply_to_answer_ms": "from `apply` to the answer that shows it",
        "edit_to_answer_ms": "from the edit to the answer that shows it",
    }
    for plane, found in results["planes"].items():
        for key, words in rows.items():
            table.add_row(plane, words, *found[key].cells())
    console.print(table)
    for plane, found in results["planes"].items():
        console.print(
            f"{plane}: the gateway adds {found['added_p50_ms']:.2f} ms at the median (1.5 at most); a change acts "
            f"within {found['edit_to_answer_ms'].p95:.0f} ms (p95; 150 at most); {found['failed_meanwhile']} of "
            f"{found['requests_meanwhile']} requests failed meanwhile"
        )
