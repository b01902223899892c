"""Watch the outbox tables and the topics in a separate thread, and match rows with records by their id."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg
from confluent_kafka import KafkaException

from labstack.backends.base import Endpoints
from labstack.clients import broker, canary

STEP = 0.1
"""The minimum interval between two queries of the databases, in seconds."""

FRESH = 1.0
"""Seconds for which a change counts as new."""

REMEMBERED = 4000
"""The number of events that are remembered one by one; older ones are only counted."""

OVERLAP = timedelta(seconds=2)
"""The longest time between the creation and the commit of a row after which the row is still found."""

NEW_ROWS = """
    SELECT id::text, type, aggregateid::text, created_at FROM outbox
    WHERE created_at >= %s AND type <> %s ORDER BY created_at LIMIT 2000
"""


@dataclass
class Passing:
    """One event in flight.

    Attributes
    ----------
    row : bool
        Whether its row was seen in the outbox, or inferred from its record.
    record : bool
        Whether its record was seen in the topic.
    changed : float
        The time of the last change (monotonic seconds).
    """

    service: str
    type: str
    order_id: str
    row: bool = False
    record: bool = False
    changed: float = 0.0


@dataclass
class Lane:
    """The observations of one service: the number of rows and records, the waiting rows, and the latest records."""

    rows: int = 0
    records: int = 0
    waiting: dict[str, Passing] = field(default_factory=dict)
    latest: deque[Passing] = field(default_factory=lambda: deque(maxlen=4))


class Watch:
    """Follows rows and records until its time is over or it is stopped; it never blocks its caller.

    Parameters
    ----------
    where : Endpoints
        The lab's endpoints.
    seconds : float
        The duration.
    changed : callable, optional
        Called from the thread while there is something new, and once at the end.
    """

    def __init__(self, where: Endpoints, seconds: float, changed: Callable[[], None] | None = None) -> None:
        self.lanes = {service: Lane() for service in where.services}
        self.trouble = ""
        self._where = where
        self._changed = changed or (lambda: None)
        self._deadline = time.monotonic() + seconds
        self._stop = threading.Event()
        self._events: dict[str, Passing] = {}
        self._lock = threading.Lock()
        self._databases: dict[str, psycopg.Connection[Any]] = {}
        # Earlier rows and records do not count, so the starting points are fixed before the constructor returns. Those
        # of the topics come first: otherwise a row between the two moments would wait forever for an unread record.
        topics = [f"{service}.events" for service in self.lanes]
        self._start = broker.end_offsets(where.kafka, broker.partitions(where.kafka, topics))
        self._since: dict[str, datetime] = {service: self._now(service) for service in self.lanes}
        self._began = dict(self._since)
        self._thread = threading.Thread(target=self._run, name="labkit-watch", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the watching thread is alive."""
        return self._thread.is_alive()

    @property
    def ended(self) -> bool:
        """Whether the watch was stopped, or its time is over."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Stop watching. Stopping twice is harmless."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(5)

    def look(self) -> dict[str, Lane]:
        """Return a copy of the observations so far."""
        with self._lock:
            return {
                service: Lane(lane.rows, lane.records, dict(lane.waiting), deque(lane.latest, maxlen=4))
                for service, lane in self.lanes.items()
            }

    def _run(self) -> None:
        try:
            changed_at = time.monotonic()
            with broker.reading(self._where.kafka, self._start) as consumer:
                while not self._stop.is_set() and time.monotonic() < self._deadline:
                    began = time.monotonic()
                    news = sum([self._look_at_rows(service) for service in self.lanes])
                    spent = time.monotonic() - began
                    # A query of a long table costs more, so it runs less often.
                    until = time.monotonic() + max(STEP, 5 * spent)
                    while (left := until - time.monotonic()) > 0 and not self._stop.is_set():
                        record = broker.poll(consumer, min(left, 0.05))
                        news += self._take(record) if record is not None else 0
                    changed_at = time.monotonic() if news else changed_at
                    if time.monotonic() - changed_at < FRESH + 0.5:  # once more when nothing is fresh
                        self._changed()
        except KafkaException as error:
            self.trouble = f"Kafka does not answer: {error}"
        finally:
            for database in self._databases.values():
                database.close()
            self._stop.set()
            self._changed()

    def _now(self, service: str) -> datetime:
        row = self._database(service).execute("SELECT clock_timestamp()").fetchone()
        assert row is not None  # a SELECT without FROM returns one row
        now: datetime = row[0]
        return now

    def _database(self, service: str) -> psycopg.Connection[Any]:
        database = self._databases.get(service)
        if database is None or database.closed:
            url = self._where.databases[service]
            database = psycopg.connect(url, autocommit=True, connect_timeout=2)
            self._databases[service] = database
        return database

    def _look_at_rows(self, service: str) -> int:
        since = max(self._began[service], self._since[service] - OVERLAP)
        try:
            rows = self._database(service).execute(NEW_ROWS, (since, canary.TYPE)).fetchall()
        except psycopg.Error:
            return 0  # the database is unavailable: its rows are found when it is back
        news = 0
        with self._lock:
            for event_id, event_type, order_id, created_at in rows:
                self._since[service] = max(self._since[service], created_at)
                event = self._event(event_id, service, event_type, order_id)
                if not event.row:
                    event.row, event.changed = True, time.monotonic()
                    news += 1
                    lane = self.lanes[service]
                    lane.rows += 1
                    if not event.record:
                        lane.waiting[event_id] = event
        return news

    def _take(self, record: broker.Record) -> int:
        service = record.topic.removesuffix(".events")
        event_id = record.headers.get("ce_id")
        if record.type == canary.TYPE or event_id is None or service not in self.lanes:
            return 0
        with self._lock:
            event = self._event(event_id, service, record.type, record.key or "")
            if event.record:
                return 0  # a duplicate: delivery is at least once
            event.record, event.changed = True, time.monotonic()
            lane = self.lanes[service]
            lane.records += 1
            if not event.row:  # a record proves its row, which may be deleted already, or not seen yet
                event.row = True
                lane.rows += 1
            lane.waiting.pop(event_id, None)
            lane.latest.appendleft(event)
        return 1

    def _event(self, event_id: str, service: str, event_type: str, order_id: str) -> Passing:
        if event_id not in self._events:
            self._events[event_id] = Passing(service, event_type, order_id)
            if len(self._events) > REMEMBERED:
                done = [i for i, event in self._events.items() if event.row and event.record]
                for old in done[: REMEMBERED // 2]:
                    del self._events[old]
        return self._events[event_id]
