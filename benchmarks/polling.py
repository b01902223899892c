"""The polling relay that a Python user would choose instead: PyPI's faststream-outbox, with its default settings.

It polls its table. With the driver asyncpg (its own recommendation), PostgreSQL's NOTIFY wakes it between two polls;
with any other driver it only polls, once per second and less often while there are no new rows. The benchmark measures
both. Writer and relay are separate helper processes, as in production.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any
from uuid import uuid4

from confluent_kafka import Message

from benchmarks.arrivals import record_arrivals, wait_for_all
from benchmarks.bare import BareRelay
from benchmarks.helper import helper
from benchmarks.row_load import moments
from labstack.clients import broker
from labstack.config.services import TopicPlan

QUEUE = "benchmark"


def relay(url: str, kafka: str, topic: str, table: str) -> None:
    """Run the relay until the process is terminated."""
    from faststream.confluent import KafkaBroker
    from faststream_outbox import OutboxBroker

    logging.disable(logging.WARNING)

    async def run() -> None:
        engine, outbox_table = await _outbox(url, table)
        outbox = OutboxBroker(engine, outbox_table=outbox_table)
        bus = KafkaBroker(kafka)

        @bus.publisher(topic)
        @outbox.subscriber(QUEUE)
        async def publish_message(body: dict[str, Any]) -> dict[str, Any]:
            return body

        await bus.start()
        await outbox.start()
        await asyncio.Event().wait()

    asyncio.run(run())


def write(url: str, table: str, rate: float, seconds: float) -> dict[str, float]:
    """Write rows as an application would; return the time at which each COMMIT was sent, by row id."""
    from faststream_outbox import OutboxBroker

    committed: dict[str, float] = {}

    async def run() -> None:
        engine, outbox_table = await _outbox(url, table)
        outbox = OutboxBroker(engine, outbox_table=outbox_table)
        for _ in moments(rate, seconds):
            row = str(uuid4())
            async with engine.connect() as connection:
                await outbox.publish({"id": row}, queue=QUEUE, session=connection)
                committed[row] = time.time()
                await connection.commit()
        await engine.dispose()

    asyncio.run(run())
    return committed


async def _outbox(url: str, table: str) -> tuple[Any, Any]:
    from faststream_outbox import make_outbox_table
    from sqlalchemy import MetaData
    from sqlalchemy.ext.asyncio import create_async_engine

    metadata = MetaData()
    outbox_table = make_outbox_table(metadata, table_name=table)
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    return engine, outbox_table


def measure_polling(bare: BareRelay, driver: str, rate: float, seconds: float, skip: float) -> list[float]:
    """Return the latencies from commit to consumer.

    Parameters
    ----------
    bare : BareRelay
        The relay whose order database and broker to use.
    driver : str
        SQLAlchemy's name for the driver: ``psycopg`` or ``asyncpg``.
    rate, seconds : float
        Rows per second, and how long to write them.
    skip : float
        The first of these seconds, which are a warm-up and are left out.
    """
    url = next(iter(bare.urls.values())).replace("postgresql://", f"postgresql+{driver}://", 1)
    topic, table = f"benchmark.polling.{driver}", f"polling_{driver}"
    broker.create_topics(bare.kafka.address, TopicPlan(4, (topic,)))
    asyncio.run(_make(url, table))
    arrived: dict[str, float] = {}

    def on_arrival(message: Message, at: float) -> None:
        arrived.setdefault(json.loads(message.value() or b"{}")["id"], at)

    with (
        record_arrivals(bare.kafka.address, [topic], on_arrival),
        helper(relay, url, bare.kafka.address, topic, table),
        helper(write, url, table, rate, seconds) as writer,
    ):
        committed: dict[str, float] = writer.result(seconds + 30)
        if not wait_for_all(lambda: len(arrived), len(committed), 20):
            raise RuntimeError(f"{len(committed) - len(arrived)} rows were not relayed")
    counts_from = min(committed.values()) + skip
    return [arrived[row] - at for row, at in committed.items() if at >= counts_from]


async def _make(url: str, table: str) -> None:
    engine, _ = await _outbox(url, table)
    await engine.dispose()
