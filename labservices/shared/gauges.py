"""What is measured, not counted: looked up in the database and at the broker while somebody reads the metrics.

A scrape never waits for that. It gets what was seen last, a second ago while there is little to do, and makes a thread
look again. Where a look takes long, since the service or its database is busy, the next one comes later: looking takes
a fiftieth of the time at most. What can't be seen, since the database or the broker is away, is left out: an old value
would be a lie.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection, text

if TYPE_CHECKING:
    from labservices.shared.database import Database

Sample = tuple[tuple[str, ...], float]
"""The values of the labels, and the value."""

FRESH = 0.5
"""Seconds for which a look is good enough; a little less than from one scrape to the next."""

SHARE = 0.02
"""Of the time, that looking may take."""

LATEST = 2.5
"""Seconds after which it looks again, however long that takes."""

STALE = 5.0
"""Seconds after which what was seen is not told any more."""


@dataclass(frozen=True)
class Gauge:
    """Something that one statement finds out.

    Parameters
    ----------
    name, documentation, labels
        As Prometheus has them.
    statement
        Gives a row for each sample: its labels' values, then its value. A value that is NULL is left out.
    always
        The labels' values for which there is a sample even where the statement gives no row: then it is 0.
    """

    name: str
    documentation: str
    labels: tuple[str, ...]
    statement: str
    always: tuple[tuple[str, ...], ...] = ()

    def samples(self, connection: Connection) -> list[Sample]:
        """Ask the database."""
        found = dict.fromkeys(self.always, 0.0)
        for row in connection.execute(text(self.statement)):
            *labels, value = row
            if value is not None:
                found[tuple(str(label) for label in labels)] = float(value)
        return list(found.items())


# Where the relay is: what PostgreSQL has sent to it, while it shows that it lives (Debezium does so every ten seconds).
# Else what it has confirmed. It confirms its last event only with the next, so the first row beyond that is its last.
_TAKEN = """
    SELECT confirmed_flush_lsn, sent_lsn, coalesce(reply_time > clock_timestamp() - interval '15 s', false) AS lives
    FROM pg_replication_slots LEFT JOIN pg_stat_replication ON pid = active_pid WHERE slot_name = 'outbox'
"""
_WAITING = f"""
    WITH taken AS MATERIALIZED ({_TAKEN})
    SELECT created_at FROM outbox
    WHERE wal_position > (SELECT CASE WHEN lives THEN sent_lsn ELSE confirmed_flush_lsn END FROM taken)
    ORDER BY wal_position OFFSET (SELECT CASE WHEN lives THEN 0 ELSE 1 END FROM taken)
"""
_IF_THERE_IS_A_SLOT = "WHERE EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'outbox')"
OF_ALL = (
    Gauge(
        "outbox_waiting_rows",
        "Outbox rows that the relay has not taken yet",
        (),
        f"SELECT (SELECT count(*) FROM ({_WAITING}) AS waiting) {_IF_THERE_IS_A_SLOT}",
    ),
    Gauge(
        "outbox_waiting_age_seconds",
        "Age of the oldest outbox row that the relay has not taken yet",
        (),
        f"""
        SELECT (SELECT coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(created_at))), 0)
                FROM ({_WAITING}) AS waiting)
        {_IF_THERE_IS_A_SLOT}
        """,
    ),
    Gauge(
        "parked_records_current",
        "Records that are parked now",
        ("state",),
        "SELECT state, count(*) FROM parked_records GROUP BY state",
        (("behind",), ("retrying",), ("given_up",), ("dead",)),
    ),
)
"""What every service has in its database."""


class Gauges(Collector):
    """Shows what its sources have seen last.

    Parameters
    ----------
    sources
        Each is asked by itself: where one is away, the others are told all the same.
    """

    def __init__(self, sources: Iterable[Callable[[], list[GaugeMetricFamily]]]) -> None:
        self._views = [_View(source) for source in sources]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give what was seen last, and have it looked up again if that was a while ago."""
        for view in self._views:
            yield from view.families()


class _View:
    """One source, and what it has shown last. One look goes on at a time, however long it takes."""

    def __init__(self, look: Callable[[], list[GaugeMetricFamily]]) -> None:
        self._look = look
        self._seen: list[GaugeMetricFamily] = []
        self._at = float("-inf")
        self._again_after = FRESH
        self._looking = threading.Lock()

    def families(self) -> list[GaugeMetricFamily]:
        age = time.monotonic() - self._at
        if age > self._again_after and self._looking.acquire(blocking=False):
            threading.Thread(target=self._again, name="gauges", daemon=True).start()
        return self._seen if age < STALE else []

    def _again(self) -> None:
        began = time.monotonic()
        try:
            seen = self._look()
        except Exception:  # what is away is told by its absence, and by the health checks
            seen = []
        self._seen, self._at = seen, time.monotonic()
        self._again_after = min(max(FRESH, (self._at - began) / SHARE), LATEST)
        self._looking.release()


def in_database(database: "Database", gauges: Iterable[Gauge]) -> list[GaugeMetricFamily]:
    """Ask a database for all of these gauges, each statement by itself: none holds on to a table.

    Raises
    ------
    DatabaseAway
        It gives no answer.
    """
    with database.statements() as connection:
        return [family(gauge, gauge.samples(connection)) for gauge in gauges]


def family(gauge: Gauge, samples: Iterable[Sample]) -> GaugeMetricFamily:
    """Make what Prometheus reads out of some samples."""
    made = GaugeMetricFamily(gauge.name, gauge.documentation, labels=gauge.labels)
    for labels, value in samples:
        made.add_metric(labels, value)
    return made
