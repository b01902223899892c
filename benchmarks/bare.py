"""The bare relay: four databases, broker and Connect with the lab's own settings and connectors, and no services.

It is the reference of other benchmarks: its startup until the first event, the latency of one hop, and a chain of hops.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from confluent_kafka import OFFSET_BEGINNING
from sqlalchemy import MetaData, text

from benchmarks.own_lab import exit_on_signals, signals_ignored, temporary_paths
from labservices.messaging.outbox import outbox_table
from labservices.storage.database import make_engine
from labstack.backends.processes import process
from labstack.backends.processes.component import Component, Context
from labstack.backends.processes.components.connect import Connect
from labstack.backends.processes.components.kafka import Kafka
from labstack.backends.processes.components.postgres import Postgres
from labstack.backends.processes.java.programs import prepare_programs
from labstack.clients import broker
from labstack.clients.databases import connect
from labstack.clients.relay import Relay
from labstack.config.paths import LabPaths
from labstack.config.services import ServiceEntry, load_services, load_topics
from labstack.ports import free as ports
from labstack.process_id import ProcessId
from labstack.progress import Progress
from labstack.waiting import poll_until

PUBLICATION = "CREATE PUBLICATION outbox FOR TABLE outbox WITH (publish = 'insert')"

INSERT = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
    VALUES (%s, %s, %s, %s, %s, 'urn:sagalab:Bare:1.0', '/benchmarks')
"""


def create_outbox(url: str, service: str) -> None:
    """Create only the outbox, as the service itself does, so that the relay reads rows of the same form."""
    metadata = MetaData()
    outbox_table(metadata, service)
    engine = make_engine(url)
    try:
        with engine.begin() as connection:
            metadata.create_all(connection)
            connection.execute(text(PUBLICATION))
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
        context = Context(paths, self.numbers)
        self.databases = {service.name: Postgres(context, service) for service in self.services}
        self.kafka = Kafka(context)
        self.connect = Connect(context)
        self.connect.databases = list(self.databases.values())
        self._running: dict[str, tuple[process.Command, ProcessId]] = {}
        self._is_starting = threading.Event()

    @property
    def components(self) -> list[Component]:
        return [*self.databases.values(), self.kafka, self.connect]

    @property
    def urls(self) -> dict[str, str]:
        """The URLs of the databases, by service."""
        return {name: database.url for name, database in self.databases.items()}

    def prepare(self) -> None:
        """Download the programs, and choose the ports."""
        prepare_programs(self.paths, self._marker, Progress())
        for component in self.components:
            for name in component.ports:
                self.numbers[name] = ports.choose(0, {0, *self.numbers.values()})

    def start(self) -> None:
        """Start all components at once, and return when one row of each outbox has become a record."""
        self._is_starting.set()
        with ThreadPoolExecutor(16) as pool:
            try:
                topics = pool.submit(self._start_broker)
                worker = pool.submit(self._start_component, self.connect)
                rows = {name: pool.submit(self._start_database, name) for name in self.databases}
                connectors = [
                    pool.submit(self._register, name, rows[name].result, worker.result) for name in self.databases
                ]
                topics.result()
                self._await_records({rows[name].result() for name in self.databases})
                for connector in connectors:
                    connector.result()
            except BaseException:
                self._is_starting.clear()  # the other threads then raise
                raise

    def stop(self) -> None:
        """Stop all components in reverse dependency order; the data remain."""
        self._is_starting.clear()
        # Connect stops first, while the others still answer it: it leaves its group and releases the slots.
        with ThreadPoolExecutor(4) as pool:
            for group in ([self.connect], [self.kafka], list(self.databases.values())):
                processes = [self._running[component.name] for component in group if component.name in self._running]
                for _ in pool.map(lambda one: process.end(one[1], one[0].stop_signal, grace=8), processes):
                    pass
        self._running.clear()
        process.destroy(process.lab_processes(self._marker))

    def _start_component(self, component: Component) -> None:
        command = component.prepare()
        identity = process.spawn(command, component.log, f"{self._marker}/{component.name}")
        self._running[component.name] = (command, identity)

        def check() -> None:
            self._raise_if_stopped()
            if not process.alive(identity):
                raise RuntimeError(f"{component.name} ended while it was starting; see {component.log}")

        if not poll_until(component.is_ready, component.timeout, interval=0.02, meanwhile=check):
            raise RuntimeError(f"{component.name} did not become ready")

    def _start_broker(self) -> None:
        self._start_component(self.kafka)
        broker.create_topics(self.kafka.address, load_topics(self.services))

    def _start_database(self, name: str) -> str:
        """Start a database, create its outbox if it is missing, insert a row, and return the row's id."""
        database = self.databases[name]
        self._start_component(database)
        row = str(uuid.uuid4())
        with connect(database.url, autocommit=True) as connection:
            if connection.execute("SELECT to_regclass('outbox') IS NULL").fetchone() == (True,):
                create_outbox(database.url, name)
            connection.execute(INSERT, (row, name, str(uuid.uuid4()), "First", "{}"))
        return row

    def _register(self, name: str, database: Callable[[], object], worker: Callable[[], object]) -> None:
        database()
        worker()
        Relay(self.connect.url).register(self.databases[name].server, self._raise_if_stopped)

    def _raise_if_stopped(self) -> None:
        if not self._is_starting.is_set():
            raise RuntimeError("the start was given up, since another part failed")

    def _await_records(self, rows: set[str]) -> None:
        """Wait until these rows have become records."""
        topics = [service.events_topic for service in self.services]
        start = {(p.topic, p.partition): OFFSET_BEGINNING for p in broker.partitions(self.kafka.address, topics)}
        missing = set(rows)

        def is_complete() -> bool:
            if record := broker.poll(consumer, 0.2):
                missing.discard(record.headers.get("ce_id") or "")
            return not missing

        with broker.reading(self.kafka.address, start) as consumer:
            if not poll_until(is_complete, 60, interval=0.001):
                raise RuntimeError(f"{len(missing)} rows did not become records within 60 s")


@contextmanager
def bare_relay() -> Iterator[BareRelay]:
    """Yield a bare relay that is not started; after the block, even after an error, stop it and delete its data."""
    with temporary_paths() as paths, exit_on_signals():
        relay = BareRelay(paths)
        relay.prepare()
        try:
            yield relay
        finally:
            with signals_ignored():
                relay.stop()
