"""The bare five-hop chain: a record relayed five times, by a consumer that only writes the next row.

It uses the same databases and topics as an order: order, inventory, payment, shipping, and order again. The additional
time that an order takes is the services' own work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from confluent_kafka import Message

from benchmarks.arrivals import record_arrivals, text_headers, wait_for_all
from benchmarks.bare import INSERT, BareRelay
from benchmarks.helper import helper
from benchmarks.row_load import write_rows
from labstack.clients import broker
from labstack.clients.databases import connect

HOPS = ("HopOne", "HopTwo", "HopThree", "HopFour", "HopFive")


def relay_on(kafka: str, start: dict[tuple[str, int], int], urls: Mapping[str, str]) -> None:
    """Read each hop's record and write the next hop's row, until the process is terminated."""
    names = list(urls)
    connections = [connect(url, autocommit=True) for url in urls.values()]
    with broker.reading(kafka, start) as consumer:
        while True:
            record = broker.poll(consumer, 1.0)
            if record is None or record.type not in HOPS[:-1]:
                continue
            hop = HOPS.index(record.type) + 1
            partition = hop % len(names)
            connections[partition].execute(
                INSERT, (str(uuid4()), names[partition], record.key, HOPS[hop], f'{{"hop": {hop}}}')
            )


def run_chain(bare: BareRelay, rate: float, seconds: float, skip: float) -> list[float]:
    """Start chains at a rate, and return how long each took from its first commit to its fifth record's arrival.

    The chains that start within the first `skip` seconds are a warm-up and are left out.
    """
    topics = [service.events_topic for service in bare.services]
    start = broker.end_offsets(bare.kafka.address, broker.partitions(bare.kafka.address, topics))
    arrived: dict[str, float] = {}

    def on_arrival(message: Message, at: float) -> None:
        if text_headers(message).get("ce_type") == HOPS[-1]:
            key: Any = message.key()
            arrived.setdefault(key.decode(), at)

    first = {bare.services[0].name: bare.urls[bare.services[0].name]}
    with (
        helper(relay_on, bare.kafka.address, start, bare.urls),
        record_arrivals(bare.kafka.address, topics[:1], on_arrival),
        helper(write_rows, first, rate, seconds, HOPS[0]) as writer,
    ):
        committed: dict[str, float] = writer.result(seconds + 30)
        if not wait_for_all(lambda: len(arrived), len(committed), 10):
            raise RuntimeError(f"{len(committed) - len(arrived)} chains did not come to their end")
    counts_from = min(committed.values()) + skip
    return [arrived[row] - at for row, at in committed.items() if at >= counts_from]
