"""Write outbox rows at a rate in a helper process, and record the time of each commit."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator, Mapping

from benchmarks.bare import INSERT
from labstack.clients.databases import connect


def moments(rate: float, seconds: float, seed: int = 1) -> Iterator[float]:
    """Wait for one random time after another (a Poisson process, so that no timer of the relay is in phase)."""
    chance = random.Random(seed)
    begin = time.time()
    due = begin
    while (due := due + chance.expovariate(rate)) < begin + seconds:
        time.sleep(max(0.0, due - time.time()))
        yield due


def write_rows(urls: Mapping[str, str], rate: float, seconds: float, kind: str = "Measured") -> dict[str, float]:
    """Write rows into the outboxes in turn; return when each row's COMMIT was sent (seconds since 1970), by row id.

    Parameters
    ----------
    urls : mapping
        URLs of the databases, by service.
    rate : float
        Average number of rows per second in each of them.
    seconds : float
        How long to write rows.
    kind : str
        Event type of the rows. A row's key is its id.
    """
    committed: dict[str, float] = {}
    connections = {name: connect(url) for name, url in urls.items()}
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
