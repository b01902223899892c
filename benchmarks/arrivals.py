"""Record when each record of a topic arrives at a separate consumer, next to those of the services."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from confluent_kafka import Message

from labstack.clients import broker
from labstack.waiting import wait_until

OnArrival = Callable[[Message, float], None]


@contextmanager
def record_arrivals(kafka: str, topics: Iterable[str], on_arrival: OnArrival) -> Iterator[None]:
    """Pass each new record to `on_arrival`, with the time of its arrival in seconds since 1970.

    `on_arrival` runs in a separate thread, and should return quickly.
    """
    start = broker.end_offsets(kafka, broker.partitions(kafka, topics))
    done, has_polled = threading.Event(), threading.Event()

    def run() -> None:
        with broker.reading(kafka, start) as consumer:
            while not done.is_set():
                message = consumer.poll(0.05)
                has_polled.set()
                if message is not None and not message.error():
                    on_arrival(message, time.time())

    thread = threading.Thread(target=run, name="watch", daemon=True)
    thread.start()
    has_polled.wait(10)
    try:
        yield
    finally:
        done.set()
        thread.join(10)


def text_headers(message: Message) -> dict[str, str]:
    """Return a record's headers as text, without those that have no value."""
    headers: list[tuple[str, bytes | None]] = list(message.headers() or [])  # type: ignore[arg-type]
    return {name: value.decode() for name, value in headers if value is not None}


def wait_for_all(count: Callable[[], int], wanted: int, timeout: float) -> bool:
    """Wait until `count()` reaches `wanted`; return False if it stays unchanged for `timeout` seconds."""
    seen, since = count(), time.monotonic()

    def is_complete_or_stalled() -> bool:
        nonlocal seen, since
        now = count()
        if now != seen:
            seen, since = now, time.monotonic()
        return now >= wanted or time.monotonic() - since > timeout

    wait_until(is_complete_or_stalled, 24 * 3600, interval=0.02)
    return count() >= wanted
