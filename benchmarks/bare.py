"""The bare relay: four databases, broker and Connect with the lab's own settings and connectors, and no services.

It is the reference of other benchmarks: its startup until the first event, the latency of one hop, and a chain of hops.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
from confluent_kafka import OFFSET_BEGINNING
from sqlalchemy import MetaData, text

from benchmarks.own_lab import ended_by_signals, temporary_paths, undisturbed
from labservices.messaging.outbox import outbox_table
from labservices.storage.database import make_engine
from labstack.backends.processes import process
from labstack.backends.processes.component import Component, Site
from labstack.backends.processes.components.connect import Connect
from labstack.backends.processes.components.kafka import Kafka
from labstack.backends.processes.components.postgres import Postgres
from labstack.backends.processes.java.programs import prepare_programs
from labstack.clients import broker
from labstack.clients.relay import Relay
from labstack.config.paths import LabPaths
from labstack.config.services import ServiceEntry, load_services, load_topics
from labstack.ports import free as ports
from labstack.progress import Progress
from labstack.waiting import wait_until

PUBLICATION = "CREATE PUBLICATION outbox FOR TABLE outbox WITH (publish = 'insert')"
SLOT = "SELECT pg_create_logical_replication_slot('outbox', 'pgoutput')"

INSERT = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
    VALUES (%s, %s, %s, %s, %s, 'urn:sagalab:Bare:1.0', '/benchmarks')
"""


def make_outbox(url: str, service: str) -> None:
    """Create only the outbox, as the service itself does, so that the relay reads rows of the same form."""
    metadata = MetaData()
    outbox_table(metadata, service)
    engine = make_engine(url)
    try:
        with engine.begin() as connection:
            metadata.create_all(connection)
            connection.execute(text(PUBLICATION))
        with engine.begin() as connection:
            connection.execute(text(SLOT))
    finally:
        engine.dispose()


class BareRelay:
    """The components of the relay as processes, without a lab around them.

    Parameters
    ----------
    paths : LabPaths
        Folders of the data, the logs and the programs.
    """

    def __init__(self, paths: LabPaths) -> None:
        self.paths = paths
        self.services: tuple[ServiceEntry, ...] = load_services()
        self.numbers: dict[str, int] = {}
        self._marker = f"benchmark-{uuid.uuid4().hex[:12]}"
        site = Site(paths, self.numbers)
        self.databases = {service.name: Postgres(site, service) for service in self.services}
        self.kafka = Kafka(site)
        self.connect = Connect(site)
        self._running: dict[str, tuple[process.Command, process.ProcessId]] = {}
        self._wanted = threading.Event()

    @property
    def parts(self) -> list[Component]:
        return [*self.databases.values(), self.kafka, self.connect]

    @property
    def urls(self) -> dict[str, str]:
        """The URLs of the databases, by service."""
        return {name: database.url for name, database in self.databases.items()}

    def prepare(self) -> None:
        """Download the programs, and choose the ports."""
        prepare_programs(self.paths, self._marker, Progress())
        for part in self.parts:
            for name in part.ports:
                self.numbers[name] = ports.choose(0, {0, *self.numbers.values()})

    def start(self) -> None:
        """Start all components at once, and return when one row of each outbox has become a record."""
        self._wanted.set()
        with ThreadPoolExecutor(16) as pool:
            try:
                topics = pool.submit(self._start_broker)
                worker = pool.submit(self._start_part, self.connect)
                rows = {name: pool.submit(self._start_database, name) for name in self.databases}
                connectors = [
                    pool.submit(self._register, name, rows[name].result, worker.result) for name in self.databases
                ]
                topics.result()
                self._await_records({rows[name].result() for name in self.databases})
                for connector in connectors:
                    connector.result()
            except BaseException:
                self._wanted.clear()  # the other threads then raise
                raise

    def stop(self) -> None:
        """Stop all components in reverse dependency order; the data remain."""
        self._wanted.clear()
        # Connect stops first, while the others still answer it: it leaves its group and releases the slots.
        with ThreadPoolExecutor(4) as pool:
            for group in ([self.connect], [self.kafka], list(self.databases.values())):
                ending = [self._running[part.name] for part in group if part.name in self._running]
                for _ in pool.map(lambda one: process.end(one[1], one[0].stop_signal, grace=8), ending):
                    pass
        self._running.clear()
        process.destroy(process.strays(self._marker))

    def _start_part(self, part: Component) -> None:
        command = part.prepare()
        identity = process.spawn(command, part.log, f"{self._marker}/{part.name}")
        self._running[part.name] = (command, identity)

        def check() -> None:
            self._give_up_if_not_wanted()
            if not process.alive(identity):
                raise RuntimeError(f"{part.name} ended while it was starting; see {part.log}")

        if not wait_until(part.is_ready, part.timeout, interval=0.02, meanwhile=check):
            raise RuntimeError(f"{part.name} did not become ready")

    def _start_broker(self) -> None:
        self._start_part(self.kafka)
        broker.make_topics(self.kafka.address, load_topics(self.services))

    def _start_database(self, name: str) -> str:
        """Start a database, create its outbox if it is missing, insert a row, and return the row's id."""
        database = self.databases[name]
        self._start_part(database)
        row = str(uuid.uuid4())
        with psycopg.connect(database.url, autocommit=True) as connection:
            if connection.execute("SELECT to_regclass('outbox') IS NULL").fetchone() == (True,):
                make_outbox(database.url, name)
            connection.execute(INSERT, (row, name, str(uuid.uuid4()), "First", "{}"))
        return row

    def _register(self, name: str, database: Callable[[], object], worker: Callable[[], object]) -> None:
        database()
        worker()
        Relay(self.connect.url).register(name, self.databases[name].url, self._give_up_if_not_wanted)

    def _give_up_if_not_wanted(self) -> None:
        if not self._wanted.is_set():
            raise RuntimeError("the start was given up, since another part failed")

    def _await_records(self, rows: set[str]) -> None:
        """Wait until these rows have become records."""
        topics = [service.events_topic for service in self.services]
        start = {(p.topic, p.partition): OFFSET_BEGINNING for p in broker.partitions(self.kafka.address, topics)}
        missing = set(rows)

        def look() -> bool:
            if record := broker.poll(consumer, 0.2):
                missing.discard(record.headers.get("ce_id") or "")
            return not missing

        with broker.reading(self.kafka.address, start) as consumer:
            if not wait_until(look, 60, interval=0.001):
                raise RuntimeError(f"{len(missing)} rows did not become records within 60 s")


@contextmanager
def bare_relay() -> Iterator[BareRelay]:
    """Yield a bare relay that is not started; after the block, even after an error, stop it and delete its data."""
    with temporary_paths() as paths, ended_by_signals():
        relay = BareRelay(paths)
        relay.prepare()
        try:
            yield relay
        finally:
            with undisturbed():
                relay.stop()
