"""Extension service: run a learner's service from one file of event handlers.

``python -m labservices.extension NAME FILE`` runs it. FILE is a Python file that defines

* ``HANDLERS``: the handler of each event type, such as ``{PaymentCompleted: on_paid}``. A handler receives an open
  transaction of the service's own database (a psycopg connection), the event, and the event's id. The transaction is
  committed when the handler returns.
* ``GAUGES`` (optional): the gauges to query in its database (see ``telemetry/gauges.py``).

The extension service runs the same consumer code as the four services, in a separate group. The consumer commits an
offset after the handler's transaction, so an event is delivered at least once. An event whose handler fails blocks its
partition and is retried until the handler succeeds. The file itself must provide an inbox, an outbox and guards if it
needs them.
"""

import logging
import os
import runpy
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any

import psycopg
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import MetaData

from labservices.contract import CONNECTION
from labservices.events import Event
from labservices.messaging.consumer import EventConsumer, client_settings
from labservices.messaging.handling import Outcome, RetryLater, find_handler
from labservices.messaging.lag import Lag
from labservices.record import InvalidRecord, Record
from labservices.service import Service
from labservices.settings import Settings, SettingsError, read_settings
from labservices.storage.database import make_engine
from labservices.telemetry import event_spans, metrics, tracing
from labservices.telemetry.exposition import serve_metrics
from labservices.telemetry.gauges import Gauge, Gauges, family

log = logging.getLogger(__name__)


class ExtensionHandling:
    """Calls the handlers of a file, each in one transaction, without an inbox and without parking.

    Parameters
    ----------
    service
        The service's name and handlers.
    url
        The URL of the service's database.
    """

    def __init__(self, service: Service, url: str) -> None:
        self._service = service
        self._url = url

    def handle(self, record: Record) -> Outcome:
        """Handle one record.

        Raises
        ------
        RetryLater
            If the handler fails or the database is unavailable. The transaction is rolled back.
        """
        try:
            found = find_handler(self._service, record)
        except InvalidRecord as error:
            log.warning(
                "ignored the record with key %s at offset %d of %s: %s", record.key, record.offset, record.topic, error
            )
            return Outcome.IGNORED
        if found is None:
            return Outcome.IGNORED
        envelope, handler = found
        kind = envelope.event.type()
        call: Any = handler
        try:
            with event_spans.handling(self._service.name, envelope), self._connect() as transaction:
                call(transaction, envelope.event, envelope.event_id)
        except Exception as error:
            log.exception("%s of order %s can't be handled; it will be retried", kind, envelope.event.order_id)
            metrics.EVENTS.labels(kind, Outcome.FAILED.value).inc()
            raise RetryLater(f"{kind}: {error!r}") from error
        metrics.EVENTS.labels(kind, Outcome.HANDLED.value).inc()
        return Outcome.HANDLED

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._url, **CONNECTION, options="")

    def try_parked(self) -> None:
        """Do nothing, since no record is parked."""

    def seconds_until_due(self) -> None:
        """Return None, since no record is parked."""


def read_service(name: str, file: str) -> tuple[Service, tuple[Gauge, ...]]:
    """Return the service and the gauges that a file defines.

    Raises
    ------
    LookupError
        If the file has no ``HANDLERS``, or names an event type instead of importing it.
    """
    found = runpy.run_path(file, run_name=name)
    handlers: Mapping[type[Event], Any] | None = found.get("HANDLERS")
    if not handlers:
        raise LookupError(f"{file} does not define HANDLERS; define it as a dict from each event type to its handler")
    if unknown := [key for key in handlers if not isinstance(key, type)]:
        raise LookupError(
            f"{file} has the key {unknown[0]!r} in HANDLERS, which is not an event type; import the type: "
            "from labservices.events import PaymentCompleted"
        )
    service = Service(name, MetaData(), lambda *_: None, handlers, lambda *_: None)  # type: ignore[arg-type]
    return service, tuple(found.get("GAUGES", ()))


def run(service: Service, gauges: tuple[Gauge, ...], settings: Settings) -> None:
    """Run a service until it receives SIGTERM or SIGINT."""
    engine = make_engine(settings.database_url)

    def measure() -> list[GaugeMetricFamily]:
        with engine.connect() as connection:
            return [family(gauge, gauge.samples(connection)) for gauge in gauges]

    lag = Lag(service.name, service.topics, client_settings(service, settings))
    REGISTRY.register(Gauges([measure, lag.query]))
    for kind in service.handlers:
        for outcome in (Outcome.HANDLED, Outcome.FAILED):
            metrics.EVENTS.labels(kind.type(), outcome.value)
    stop_requested = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop_requested.set())
    consumer = EventConsumer(service, settings, ExtensionHandling(service, settings.database_url))
    serve_metrics(settings.http_host, settings.http_port or 0, settings.allowed_hosts)
    consumer.start()
    while not stop_requested.wait(0.2):  # on some platforms, an unbounded wait blocks Python's signal handlers
        pass
    consumer.stop()


def main() -> int:
    """Run the command line, and return the exit status."""
    if len(sys.argv) != 3:
        print("usage: python -m labservices.extension NAME FILE", file=sys.stderr)
        return 2
    name, file = sys.argv[1:]
    logging.basicConfig(level="INFO", format=f"%(asctime)s %(levelname)s {name} %(name)s: %(message)s")
    try:
        settings = read_settings()
    except SettingsError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    tracing.set_up(name, settings)
    run(*read_service(name, file), settings)
    tracing.shut_down()
    return 0


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    os._exit(status)  # as in __main__.py
