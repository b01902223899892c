"""Writing outbox rows at a rate, noting when each was committed: run as a helper process."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator, Mapping

import psycopg

from benchmarks.bare import INSERT


def moments(rate: float, seconds: float, seed: int = 1) -> Iterator[float]:
    """Wait for one random moment after the other (a Poisson process, so that no timer of the relay keeps step)."""
    chance = random.Random(seed)
    begin = time.time()
    due = begin
    while (due := due + chance.expovariate(rate)) < begin + seconds:
        time.sleep(max(0.0, due - time.time()))
        yield due


def write_rows(urls: Mapping[str, str], rate: float, seconds: float, kind: str = "Measured") -> dict[str, float]:
    """Write rows into the outboxes in turn; return by id when each row's COMMIT was sent (seconds since 1970).

    Parameters
    ----------
    urls : mapping
        Databases, by service.
    rate : float
        Rows per second in each of them, on average.
    seconds : float
        For how long.
    kind : str
        The event type of the rows. The row's key is its id.
    """
    committed: dict[str, float] = {}
    connections = {name: psycopg.connect(url) for name, url in urls.items()}
    try:
        names = list(connections)
        for number, _ in enumerate(moments(rate * len(names), seconds)):
            name = names[number % len(names)]
            row = str(uuid.uuid4())
            connections[name].execute(INSERT, (row, name, row, kind, '{"hop": 1}'))
            committed[row] = time.time()
            connections[name].commit()
    finally:
        for connection in connections.values():
            connection.close()
    return committed
