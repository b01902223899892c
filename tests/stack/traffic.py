"""Requests through the gateway, and their responses."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from labstack.clients import http


@dataclass
class Responses:
    """Responses to a number of requests.

    Attributes
    ----------
    statuses : Counter
        HTTP statuses; 0 if there was no response.
    versions : Counter
        Versions of the service that responded; empty if there was no response.
    seconds : list of float
        Duration of each request in seconds.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def add(self, status: int, version: str, seconds: float) -> None:
        self.statuses[status] += 1
        self.versions[version] += 1
        self.seconds.append(seconds)


def send_requests(
    origin: str, path: str, times: int, *, concurrency: int = 1, headers: dict[str, str] | None = None
) -> Responses:
    """Send a number of GET requests, at most `concurrency` at the same time, and return the responses."""
    responses = Responses()
    lock = threading.Lock()
    with http.client(origin, timeout=20, limits=httpx.Limits(max_connections=None)) as client:

        def one(_: int) -> None:
            began = time.monotonic()
            try:
                answer = client.get(path, headers=headers)
                status, version = answer.status_code, answer.headers.get("x-service-version", "")
            except httpx.HTTPError:
                status, version = 0, ""
            with lock:
                responses.add(status, version, time.monotonic() - began)

        with ThreadPoolExecutor(concurrency) as pool:
            list(pool.map(one, range(times)))
    return responses


@contextmanager
def continuous_requests(origin: str, path: str) -> Iterator[Responses]:
    """Send GET requests one after another during the block, over a persistent connection."""
    responses, ended = Responses(), threading.Event()

    def run() -> None:
        with http.client(origin, timeout=20) as client:
            while not ended.is_set():
                began = time.monotonic()
                try:
                    answer = client.get(path)
                    status, version = answer.status_code, answer.headers.get("x-service-version", "")
                except httpx.HTTPError:
                    status, version = 0, ""
                responses.add(status, version, time.monotonic() - began)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield responses
    finally:
        ended.set()
        thread.join(25)


def is_plausible_share(hits: int, times: int, share: float) -> bool:
    """Report whether a number of hits is within the 99.99% interval of a share of the requests."""
    return abs(hits - times * share) <= 3.9 * math.sqrt(times * share * (1 - share)) + 1
