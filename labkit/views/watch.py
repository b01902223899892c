"""Watch the outbox tables and the topics at once, in a thread of its own, and match rows with records by their id."""

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

from labstack import broker, canary
from labstack.backend import Endpoints

STEP = 0.1
"""Seconds between two looks at the databases, at least."""

FRESH = 1.0
"""Seconds for which a change counts as new."""

REMEMBERED = 4000
"""How many events are remembered one by one; older ones only count."""

OVERLAP = timedelta(seconds=2)
"""A row may be committed that much later than it was made, and still be seen."""

NEW_ROWS = """
    SELECT id::text, type, aggregateid::text, created_at FROM outbox
    WHERE created_at >= %s AND type <> %s ORDER BY created_at LIMIT 2000
"""


@dataclass
class Passing:
    """One event on its way.

    Attributes
    ----------
    row : bool
        Its row was seen in the outbox, or its record has shown that there was one.
    record : bool
        Its record was seen in the topic.
    changed : float
        When that was last found out (monotonic seconds).
    """

    service: str
    type: str
    order_id: str
    row: bool = False
    record: bool = False
    changed: float = 0.0


@dataclass
class Lane:
    """What was seen of one service: how many rows and records, which rows wait, and which records came last."""

    rows: int = 0
    records: int = 0
    waiting: dict[str, Passing] = field(default_factory=dict)
    latest: deque[Passing] = field(default_factory=lambda: deque(maxlen=4))


class Watch:
    """Follows rows and records until its time is over or it is stopped; never holds up whoever started it.

    Parameters
    ----------
    where : Endpoints
        The lab.
    seconds : float
        How long.
    changed : callable, optional
        Called from the thread while something is new, and once at the end.
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
        # What was there before is no part of it: the beginning is fixed here, before the caller goes on. The topics'
        # comes first: a row between the two moments would wait for ever for a record that nobody reads.
        topics = [f"{service}.events" for service in self.lanes]
        self._start = broker.end_offsets(where.kafka, broker.partitions(where.kafka, topics))
        self._since: dict[str, datetime] = {service: self._now(service) for service in self.lanes}
        self._began = dict(self._since)
        self._thread = threading.Thread(target=self._run, name="labkit-watch", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it still watches."""
        return self._thread.is_alive()

    @property
    def ended(self) -> bool:
        """Whether it was stopped, or its time is over."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Stop watching; twice is fine."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(5)

    def look(self) -> dict[str, Lane]:
        """Return what was seen so far, as a copy that doesn't move."""
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
                    # A look at a long table costs more, and is taken less often.
                    until = time.monotonic() + max(STEP, 5 * spent)
                    while (left := until - time.monotonic()) > 0 and not self._stop.is_set():
                        record = broker.poll(consumer, min(left, 0.05))
                        news += self._take(record) if record is not None else 0
                    changed_at = time.monotonic() if news else changed_at
                    if time.monotonic() - changed_at < FRESH + 0.5:  # once more when nothing is fresh any longer
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
        assert row is not None  # a SELECT without FROM gives one row
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
            return 0  # the database is away: its rows are seen when it is back
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
                return 0  # the same event again: at least once
            event.record, event.changed = True, time.monotonic()
            lane = self.lanes[service]
            lane.records += 1
            if not event.row:  # a record proves its row, which may be gone already, or not looked at yet
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
