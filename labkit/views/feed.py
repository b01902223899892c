"""The live feed of the lab's events: read from databases, topics and Envoy, and passed to every live view.

One feed serves all views of a kernel. It reads while it has listeners, and stops its threads when the last one leaves.
It blocks nothing: it takes no lock in a database and joins no consumer group. It retries a source that is unavailable.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import psycopg

from labkit.views.bounded import Bounded
from labstack import Lab
from labstack.backends.base import Endpoints
from labstack.clients import broker, http, probe_event
from labstack.clients.databases import connect
from labstack.errors import LabError
from labstack.lab import access_of

ROWS_EVERY = 0.1
"""Seconds between two queries of a database."""
REQUESTS_EVERY = 0.2
STATES_EVERY = 1.0
RETRY_AFTER = 0.5
"""Seconds until an unavailable source is retried."""
REMEMBERED = 20_000
"""The number of events that are remembered: their orders, because inboxes do not name the order, and their records."""

# Rows committed since the previous snapshot, in long transactions, too. Rows more than ten minutes old are left out.
NEW_ROWS = """
    WITH now AS (SELECT pg_current_snapshot()::text AS snapshot)
    SELECT now.snapshot, news.* FROM now LEFT JOIN (
        SELECT 'row', id::text, type, aggregateid::text, extract(epoch FROM created_at)::float8
        FROM outbox WHERE created_at > clock_timestamp() - interval '10 min'
            AND NOT pg_visible_in_snapshot(xmin::text::xid8, %(before)s::pg_snapshot)
        UNION ALL
        SELECT 'handled', event_id::text, type, NULL, extract(epoch FROM handled_at)::float8
        FROM inbox WHERE handled_at > clock_timestamp() - interval '10 min'
            AND NOT pg_visible_in_snapshot(xmin::text::xid8, %(before)s::pg_snapshot)
    ) AS news ON true ORDER BY 6
"""
REQUESTS = r"^cluster\.outbound\|8000\|.*\.upstream_rq_total$"
DESTINATION = re.compile(r"\|(\w+)\.default\.")

Stage = Literal["request", "row", "record", "handled", "given up"]


@dataclass(frozen=True)
class Observation:
    """One observation.

    Attributes
    ----------
    stage : str
        A request was sent to a service; a row was committed to its outbox; a record of it arrived in Kafka; the service
        handled an event; the service dead-lettered an event.
    service : str
        The service.
    type, order_id, event_id : str
        Of the event; empty if unknown.
    at : float
        The time by the lab's clocks, in seconds since 1970.
    times : int
        The number of requests.
    record : Record, optional
        The record read from Kafka.
    """

    stage: Stage
    service: str
    type: str = ""
    order_id: str = ""
    event_id: str = ""
    at: float = 0.0
    times: int = 1
    record: broker.Record | None = None


@dataclass(frozen=True)
class States:
    """The states of the lab's components.

    Attributes
    ----------
    components : dict
        State by name: running, paused, stopped or failed.
    scraped, traced : frozenset of str
        Services that Prometheus scrapes, and services of which Jaeger has spans.
    """

    components: dict[str, str] = field(default_factory=dict)
    scraped: frozenset[str] = frozenset()
    traced: frozenset[str] = frozenset()


Listener = Callable[[list[Observation], States | None], None]
"""Receives new observations; called from the feed's threads."""


class Feed:
    """Reads observations while it has listeners.

    Parameters
    ----------
    lab : Lab
        The running lab.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._orders: Bounded[str, str] = Bounded(REMEMBERED)
        self._published: Bounded[str, bool] = Bounded(REMEMBERED)
        self.errors: dict[str, str] = {}
        """The sources that are unavailable, with the error of each."""

    @property
    def services(self) -> tuple[str, ...]:
        """The services of the running lab."""
        return tuple(self._lab.endpoints.services)

    @property
    def running(self) -> bool:
        """Whether the feed is reading."""
        return any(thread.is_alive() for thread in self._threads)

    def subscribe(self, listener: Listener) -> None:
        """Add a listener. It receives everything that is committed after this method returns."""
        with self._lock:
            self._listeners.append(listener)
            if len(self._listeners) == 1:
                self._begin()

    def unsubscribe(self, listener: Listener) -> None:
        """Remove a listener. When the last one leaves, the feed stops reading."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
            ending = [] if self._listeners else self._threads
            if ending:
                self._stop.set()
        for thread in ending:
            if thread is not threading.current_thread():
                thread.join(5)

    def _begin(self) -> None:
        self._stop = threading.Event()
        endpoints = self._lab.endpoints
        # The topics' ends are read before the tables' snapshots, so that each new row's record is read. Otherwise a row
        # that is committed and published between the two moments would seem to wait for its record forever. A record
        # whose row is older than the snapshot does no harm: it proves its row.
        records = _RecordReader(self, endpoints, self._stop)
        readers = [_RowReader(self, endpoints, service) for service in endpoints.services]
        work: list[tuple[str, Callable[[], None], float]] = [
            *((f"{reader.service}-db", reader.read, ROWS_EVERY) for reader in readers),
            ("kafka", records.read, 0.0),
            ("envoy", _RequestReader(self, self._lab).read, REQUESTS_EVERY),
            ("lab", _StateReader(self, self._lab).read, STATES_EVERY),
        ]
        self._threads = [
            threading.Thread(target=self._repeat, args=(self._stop, *one), name=f"labkit-feed-{one[0]}", daemon=True)
            for one in work
        ]
        for thread in self._threads:
            thread.start()

    def _repeat(self, stop: threading.Event, name: str, read: Callable[[], None], every: float) -> None:
        """Read a source repeatedly. Record an unavailable source in `errors`, and retry it."""
        while not stop.is_set():
            began = time.monotonic()
            try:
                read()
                self.errors.pop(name, None)
                # A query of a long table costs more, so it runs less often.
                wait = max(every, 3 * (time.monotonic() - began)) if every else 0.0
            except (psycopg.Error, LabError, httpx.HTTPError, OSError) as error:
                self.errors[name] = f"{name} does not answer: {str(error).strip().splitlines()[0]}"
                wait = RETRY_AFTER
            stop.wait(wait)
        with contextlib.suppress(Exception):
            read.__self__.close()  # type: ignore[attr-defined]  # all of them are methods of readers

    def notify(self, observations: list[Observation], states: States | None = None) -> None:
        """Pass observations to every listener."""
        for one in observations:
            if one.order_id and one.event_id:
                self._orders[one.event_id] = one.order_id
            if one.stage == "record":
                self._published[one.event_id] = True
        for listener in list(self._listeners):
            listener(observations, states)

    def was_published(self, event_id: str) -> bool:
        """Report whether the record of an event has been read."""
        return event_id in self._published

    def order_of(self, event_id: str) -> str:
        """Return the order that an event concerns; empty if the feed has seen neither its row nor its record."""
        return self._orders.get(event_id, "")


class _Reader:
    """Reads one source."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    def read(self) -> None:
        """Read once, and report new observations."""

    def close(self) -> None:
        """Disconnect from the source."""


class _RowReader(_Reader):
    """The outbox and the inbox of one service."""

    def __init__(self, feed: Feed, endpoints: Endpoints, service: str) -> None:
        super().__init__(feed)
        self.service = service
        self._url = endpoints.readable[service]
        self._database: psycopg.Connection[Any] | None = None
        self._before = ""
        with contextlib.suppress(psycopg.Error):
            self._before = self._snapshot()

    def _connection(self) -> psycopg.Connection[Any]:
        if self._database is None or self._database.closed:
            self._database = connect(self._url, autocommit=True, timeout=2, options="-c statement_timeout=3000")
        return self._database

    def _snapshot(self) -> str:
        row = self._connection().execute("SELECT pg_current_snapshot()::text").fetchone()
        return str(row[0]) if row else ""

    def read(self) -> None:
        if not self._before:
            self._before = self._snapshot()
        found = self._connection().execute(NEW_ROWS, {"before": self._before}).fetchall()
        self._before = found[0][0]
        observations = [
            Observation(stage, self.service, kind, order or self.feed.order_of(event), event, at)
            for _, stage, event, kind, order, at in found
            if stage and kind != probe_event.TYPE
        ]
        if observations:
            self.feed.notify(observations)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()


class _RecordReader(_Reader):
    """The topics of the events and of the dead letters."""

    def __init__(self, feed: Feed, endpoints: Endpoints, stop: threading.Event) -> None:
        super().__init__(feed)
        self._kafka = endpoints.kafka
        self._stop = stop
        self._topics = [f"{service}.{kind}" for service in endpoints.services for kind in ("events", "dlq")]
        self._start: dict[tuple[str, int], int] | None = None
        with contextlib.suppress(LabError):
            self._start = self._ends()

    def _ends(self) -> dict[tuple[str, int], int]:
        return broker.end_offsets(self._kafka, broker.partitions(self._kafka, self._topics))

    def read(self) -> None:
        """Read until the feed stops; the consumer resumes by itself when its broker is back."""
        if self._start is None:
            self._start = self._ends()
        with broker.reading(self._kafka, self._start) as consumer:
            while not self._stop.is_set():
                observations = []
                record = broker.poll(consumer, 0.05)
                while record is not None:
                    observations += self._observations(record)
                    record = broker.poll(consumer, 0.0) if len(observations) < 200 else None
                if observations:
                    self.feed.notify(observations)

    def _observations(self, record: broker.Record) -> list[Observation]:
        if record.type == probe_event.TYPE:
            return []
        service, _, kind = record.topic.partition(".")
        stage: Stage = "record" if kind == "events" else "given up"
        event = record.headers.get("ce_id") or ""
        return [Observation(stage, service, record.type, record.key or "", event, record.time / 1000, record=record)]


class _RequestReader(_Reader):
    """The gateway's requests to each service, from Envoy's counters."""

    def __init__(self, feed: Feed, lab: Lab) -> None:
        super().__init__(feed)
        self._lab = lab
        self._before: dict[str, int] | None = None
        self._read_at = time.time()
        with contextlib.suppress(LabError, httpx.HTTPError):
            self._before = self._counts()

    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for name, value in self._lab.mesh.statistics(REQUESTS).items():
            if match := DESTINATION.search(name):
                counts[match[1]] = counts.get(match[1], 0) + value
        return counts

    def read(self) -> None:
        # The requests came after the last time of reading, and before everything that they caused.
        since, self._read_at = self._read_at, time.time()
        now = self._counts()
        before, self._before = self._before, now
        if before is None:
            return
        # A lower counter means that Envoy was restarted.
        increase = {
            service: n - before.get(service, 0) if n >= before.get(service, 0) else n for service, n in now.items()
        }
        observations = [Observation("request", service, at=since, times=n) for service, n in increase.items() if n]
        if observations:
            self.feed.notify(observations)


class _StateReader(_Reader):
    """The states of the components, and the services that send data to Prometheus and Jaeger."""

    def __init__(self, feed: Feed, lab: Lab) -> None:
        super().__init__(feed)
        self._lab = lab
        self._reads = 0
        self._names: list[str] = []

    def read(self) -> None:
        # The list of components is refreshed only now and then: the whole status takes ten times as long.
        if self._reads % 10 == 0:
            self._names = list(self._lab.status(memory=False).components)
        self._reads += 1
        backend = access_of(self._lab).backend()
        states: dict[str, str] = {name: backend.inspect(name).state for name in self._names}
        endpoints = backend.endpoints().observers
        scraped: frozenset[str] = frozenset()
        traced: frozenset[str] = frozenset()
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError, TypeError):
            if "prometheus" in endpoints:
                parameters = {"query": 'up{job="services"} == 1'}
                answer = http.get(f"{endpoints['prometheus']}/api/v1/query", params=parameters, timeout=1).json()
                scraped = frozenset(one["metric"]["service"] for one in answer["data"]["result"])
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError, TypeError):
            if "jaeger" in endpoints:
                traced = frozenset(http.get(f"{endpoints['jaeger']}/api/services", timeout=1).json()["data"] or ())
        self.feed.notify([], States(states, scraped, traced))
