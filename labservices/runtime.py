"""The runtime of a service: wiring, startup and shutdown."""

import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import FrameType

import uvicorn
from fastapi import FastAPI
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import Engine, Table
from sqlalchemy.exc import InterfaceError, OperationalError

from labservices.http.protocol import LimitedProtocol
from labservices.http.web import make_app
from labservices.messaging.consumer import EventConsumer, client_settings, producer_settings
from labservices.messaging.dead_letters import DeadLetterPublisher
from labservices.messaging.handling import Call, EventHandling, call_handler
from labservices.messaging.inbox import Inbox
from labservices.messaging.lag import Lag
from labservices.messaging.outbox import Outbox
from labservices.service import Service
from labservices.settings import Settings
from labservices.storage.database import Database, Transaction
from labservices.storage.schema import make_schema
from labservices.storage.unavailable import DatabaseUnavailable
from labservices.telemetry import metrics
from labservices.telemetry.gauges import COMMON_GAUGES, Gauges, query_gauges

log = logging.getLogger(__name__)

EXIT_SECONDS = 1.8
"""Time limit of a shutdown in seconds; a thread may hang on an unresponsive database."""


@dataclass(frozen=True)
class Components:
    """The components of a service. A fault switch may replace some of them (see ``faults/switches.py``)."""

    outbox: Callable[[str, Table], Outbox] = Outbox
    transaction: type[Transaction] = Transaction
    database: Callable[[str, Outbox, type[Transaction]], Database] = Database
    inbox: Callable[[str], Inbox] = Inbox
    call: Call = call_handler
    consumer: Callable[[Service, Settings, EventHandling], EventConsumer] = EventConsumer
    prepare: Callable[[Engine, Service], None] | None = None


class Runtime:
    """One service with all its components. This class is the only place that wires them."""

    def __init__(self, service: Service, settings: Settings, components: Components | None = None) -> None:
        components = components or Components()
        outbox = components.outbox(service.name, service.tables.tables["outbox"])
        dead_letters = DeadLetterPublisher(service.name, producer_settings(service, settings))
        self.service = service
        self.settings = settings
        self.client_settings = client_settings(service, settings)
        self.prepare = components.prepare
        self.database = components.database(settings.database_url, outbox, components.transaction)
        self.handling = EventHandling(
            service, self.database, components.inbox(service.name), dead_letters, components.call
        )
        self.consumer = components.consumer(service, settings, self.handling)
        self.stopping = threading.Event()
        self.error: Exception | None = None

    def start(self) -> None:
        """Start in the background: create the schema as soon as the database is available, then consume."""
        threading.Thread(target=self._make_schema_and_consume, name="start", daemon=True).start()

    def start_periodic_task(self) -> None:
        """Start the service's periodic task, if it has one."""
        if self.service.every_second:
            threading.Thread(target=self._every_second, name="every-second", daemon=True).start()

    def _every_second(self) -> None:
        assert self.service.every_second
        while not self.stopping.wait(1.0):
            try:
                self.service.every_second(self.database, self.settings)
            except DatabaseUnavailable as error:
                log.debug("the database is unavailable; the periodic task runs again in a second: %s", error)
            except Exception:
                log.exception("the periodic task failed; it runs again in a second")

    def measure(self) -> list[GaugeMetricFamily]:
        """Query the gauges of the service's database.

        Raises
        ------
        DatabaseUnavailable
            If the database is unavailable.
        """
        return query_gauges(self.database, (*COMMON_GAUGES, *self.service.gauges))

    def stop(self) -> None:
        """Stop the consumer, and close the database connections."""
        self.stopping.set()
        self.consumer.stop()
        self.database.engine.dispose()

    def _make_schema_and_consume(self) -> None:
        try:
            self._make_schema()
        except Exception as error:
            log.critical("the schema can't be created: %s", error)
            self.error = error
            os.kill(os.getpid(), signal.SIGTERM)
            return
        if not self.stopping.is_set():
            self.consumer.start()

    def _make_schema(self) -> None:
        while not self.stopping.is_set():
            try:
                make_schema(self.database.engine, self.service, self.settings.datasets_dir)
                if self.prepare:
                    self.prepare(self.database.engine, self.service)
            except (OperationalError, InterfaceError) as error:
                log.debug("the database is not available yet: %s", error)
                self.stopping.wait(0.1)
            else:
                self.database.schema_created.set()
                return


def serve(runtime: Runtime) -> int:
    """Run a service until it receives a stop signal: HTTP in this thread, the consumer in another."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        runtime.start()
        runtime.start_periodic_task()
        yield
        runtime.stop()

    gauges = Gauges([runtime.measure, Lag(runtime.service.name, runtime.service.topics, runtime.client_settings).query])
    REGISTRY.register(gauges)
    metrics.initialize_events(runtime.service.name, runtime.service.handlers)
    for switch in runtime.settings.teaching_switches:
        metrics.ACTIVE_FAULTS.labels(switch).set(1)
    app = make_app(runtime.service, runtime.settings, runtime.database, runtime.consumer, lifespan)
    config = uvicorn.Config(
        app,
        http=LimitedProtocol,
        host=runtime.settings.http_host,
        port=runtime.settings.http_port or 0,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn re-raises the signal, but a requested stop is not an error
        signal.signal(number, lambda *_: None)
    _Server(config).run()
    return _exit_status(runtime)


def consume(runtime: Runtime) -> int:
    """Run one more consumer in a service's group, without HTTP, until it receives a stop signal."""
    signalled = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: signalled.set())
    runtime.start()
    while not signalled.wait(0.5):  # on some platforms, an unbounded wait blocks Python's signal handlers
        pass
    _exit_after_timeout()
    runtime.stop()
    return _exit_status(runtime)


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        _exit_after_timeout()
        super().handle_exit(sig, frame)


def _exit_after_timeout() -> None:
    timer = threading.Timer(EXIT_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _exit_status(runtime: Runtime) -> int:
    return 1 if runtime.error else 0
