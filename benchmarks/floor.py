"""The floor: the path from a commit to a consumer with as little as possible in between.

PostgreSQL's own `pg_recvlogical` reads the write-ahead log through a separate slot (pgoutput, as Debezium does), a
loop sends each row's id to Kafka at once, and a consumer reads it. A relay on these programs can hardly be faster.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from pathlib import Path

from confluent_kafka import Message, Producer
from psycopg.conninfo import conninfo_to_dict

from benchmarks.arrivals import record_arrivals, wait_for_all
from benchmarks.bare import BareRelay
from benchmarks.helper import helper
from benchmarks.row_load import write_rows
from labstack.backends.processes.components.postgres import programs
from labstack.clients import broker
from labstack.config.services import TopicPlan

TOPIC = "benchmark.floor"
SLOT = "benchmark_floor"
OPTIONS = ("--option=proto_version=1", "--option=publication_names=outbox")
_ID = re.compile(rb"N..t\x00\x00\x00\x24([0-9a-f-]{36})", re.DOTALL)
"""Part of a pgoutput Insert message: a new row, its number of columns, and the first column, a text of 36 bytes."""


def measure_floor(bare: BareRelay, rate: float, seconds: float, skip: float) -> dict[str, list[float]]:
    """Return the latencies of the whole path, of its decoding, and of its Kafka round trip."""
    url = next(iter(bare.urls.values()))
    broker.create_topics(bare.kafka.address, TopicPlan(4, (TOPIC,)))
    producer = Producer({"bootstrap.servers": bare.kafka.address, "linger.ms": 0, "acks": "all"})
    decoded: dict[str, float] = {}
    arrived: dict[str, float] = {}

    def on_arrival(message: Message, at: float) -> None:
        value = message.value()
        arrived.setdefault((value or b"").decode(), at)

    _recvlogical(url, "--create-slot", "--plugin=pgoutput")
    reader = subprocess.Popen(
        _command(url, "--start", "--file=-", *OPTIONS),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(url),
        cwd=Path("/"),
    )
    try:

        def publish_rows() -> None:
            assert reader.stdout
            buffer = b""
            while chunk := os.read(reader.stdout.fileno(), 65536):
                buffer += chunk
                while found := _ID.search(buffer):
                    buffer = buffer[found.end() :]
                    row = found.group(1)
                    decoded[row.decode()] = time.time()
                    producer.produce(TOPIC, key=row, value=row)
                    producer.poll(0)

        thread = threading.Thread(target=publish_rows, daemon=True)
        thread.start()
        first = {bare.services[0].name: url}
        with (
            record_arrivals(bare.kafka.address, [TOPIC], on_arrival),
            helper(write_rows, first, rate, seconds) as writer,
        ):
            committed: dict[str, float] = writer.result(seconds + 30)
            if not wait_for_all(lambda: len(arrived), len(committed), 10):
                raise RuntimeError(f"{len(committed) - len(arrived)} rows did not come through the floor")
    finally:
        reader.terminate()
        reader.wait(10)
        _recvlogical(url, "--drop-slot")
    thread.join(5)
    producer.flush(5)
    counts_from = min(committed.values()) + skip
    rows = [row for row, at in committed.items() if at >= counts_from]
    return {
        "whole": [arrived[row] - committed[row] for row in rows],
        "decoding": [decoded[row] - committed[row] for row in rows],
        "kafka": [arrived[row] - decoded[row] for row in rows],
    }


def _command(url: str, *arguments: str) -> list[str]:
    parameters = conninfo_to_dict(url)
    target = [f"--{name}={parameters[key]}" for name, key in (("host", "host"), ("port", "port"), ("username", "user"))]
    return [
        str(programs() / "pg_recvlogical"),
        *target,
        f"--dbname={parameters['dbname']}",
        f"--slot={SLOT}",
        *arguments,
    ]


def _recvlogical(url: str, *arguments: str) -> None:
    done = subprocess.run(_command(url, *arguments), capture_output=True, env=_environment(url), cwd=Path("/"))
    if done.returncode:
        raise RuntimeError(f"pg_recvlogical {arguments[0]}: {done.stderr.decode()}")


def _environment(url: str) -> dict[str, str]:
    return {**os.environ, "PGPASSWORD": str(conninfo_to_dict(url)["password"])}
