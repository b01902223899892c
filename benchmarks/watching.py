"""Record when each record of a topic arrives at a separate consumer, next to those of the services."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from confluent_kafka import Message

from labstack.clients import broker
from labstack.waiting import wait_until

Take = Callable[[Message, float], None]


@contextmanager
def watching(kafka: str, topics: Iterable[str], take: Take) -> Iterator[None]:
    """Pass each new record to `take`, with the time of its arrival in seconds since 1970.

    `take` runs in a separate thread, and should return quickly.
    """
    start = broker.end_offsets(kafka, broker.partitions(kafka, topics))
    done, reads = threading.Event(), threading.Event()

    def run() -> None:
        with broker.reading(kafka, start) as consumer:
            while not done.is_set():
                message = consumer.poll(0.05)
                reads.set()
                if message is not None and not message.error():
                    take(message, time.time())

    thread = threading.Thread(target=run, name="watch", daemon=True)
    thread.start()
    reads.wait(10)
    try:
        yield
    finally:
        done.set()
        thread.join(10)


def text_headers(message: Message) -> dict[str, str]:
    """Return a record's headers as text, without those that have no value."""
    headers: list[tuple[str, bytes | None]] = list(message.headers() or [])  # type: ignore[arg-type]
    return {name: value.decode() for name, value in headers if value is not None}


def wait_for_all(there: Callable[[], int], wanted: int, timeout: float) -> bool:
    """Wait until `there()` reaches `wanted`; return False if it stays unchanged for `timeout` seconds."""
    seen, since = there(), time.monotonic()

    def all_or_nothing_new() -> bool:
        nonlocal seen, since
        now = there()
        if now != seen:
            seen, since = now, time.monotonic()
        return now >= wanted or time.monotonic() - since > timeout

    wait_until(all_or_nothing_new, 24 * 3600, interval=0.02)
    return there() >= wanted
