"""Gauges: values that are queried from the database and the broker when the metrics are scraped.

A scrape never waits for a query. It returns the last values, which are a second old under light load, and starts a
thread that queries again. If a query takes long because the service or its database is busy, the next one starts later,
by up to 2.5 s, so that queries of up to 50 ms take at most a fiftieth of the time. If the database or the broker is
unavailable, its gauges are left out, since an old value would be misleading.
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
    from labservices.storage.database import Database

Sample = tuple[tuple[str, ...], float]
"""The label values, and the value of the gauge."""

FRESH = 0.5
"""Seconds for which a result counts as fresh; less than the scrape interval (1 s), so each scrape can start a query."""

MAX_SHARE = 0.02
"""Maximum share of the time that queries take, unless `MAX_INTERVAL` starts the next query earlier."""

MAX_INTERVAL = 2.5
"""Seconds after which a scrape starts the next query, however long the last one took."""

STALE = 5.0
"""Seconds after which a result is no longer reported."""


@dataclass(frozen=True)
class Gauge:
    """A gauge that is read with one SQL statement.

    Parameters
    ----------
    name, documentation, labels
        The metric's name, help text and label names in Prometheus.
    statement
        A query that returns one row per sample: the label values, then the value. A NULL value is left out.
    always
        The label values that always have a sample: 0 if the statement returns no row for them.
    """

    name: str
    documentation: str
    labels: tuple[str, ...]
    statement: str
    always: tuple[tuple[str, ...], ...] = ()

    def samples(self, connection: Connection) -> list[Sample]:
        """Query the database."""
        found = dict.fromkeys(self.always, 0.0)
        for row in connection.execute(text(self.statement)):
            *labels, value = row
            if value is not None:
                found[tuple(str(label) for label in labels)] = float(value)
        return list(found.items())


# The relay's position. If the relay is alive (Debezium replies every ten seconds), this is the position up to which
# PostgreSQL has sent the log; otherwise it is the confirmed position. The relay does not confirm an event at once, but
# together with the next event or with its next heartbeat. If it stops before that, its last event counts as waiting.
_RELAY_POSITION = """
    SELECT confirmed_flush_lsn, sent_lsn, coalesce(reply_time > clock_timestamp() - interval '15 s', false) AS lives
    FROM pg_replication_slots LEFT JOIN pg_stat_replication ON pid = active_pid WHERE slot_name = 'outbox'
"""
_WAITING = f"""
    WITH taken AS MATERIALIZED ({_RELAY_POSITION})
    SELECT created_at FROM outbox
    WHERE wal_position > (SELECT CASE WHEN lives THEN sent_lsn ELSE confirmed_flush_lsn END FROM taken)
"""
_IF_SLOT_EXISTS = "WHERE EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'outbox')"
COMMON_GAUGES = (
    Gauge(
        "outbox_waiting_rows",
        "Outbox rows that the relay has not read yet",
        (),
        f"SELECT (SELECT count(*) FROM ({_WAITING}) AS waiting) {_IF_SLOT_EXISTS}",
    ),
    Gauge(
        "outbox_waiting_age_seconds",
        "Age of the oldest outbox row that the relay has not read yet",
        (),
        f"""
        SELECT (SELECT coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(created_at))), 0)
                FROM ({_WAITING}) AS waiting)
        {_IF_SLOT_EXISTS}
        """,
    ),
    Gauge(
        "parked_records_current",
        "Records that are currently parked",
        ("state",),
        "SELECT state, count(*) FROM parked_records GROUP BY state",
        (("behind",), ("retrying",), ("given_up",), ("dead",)),
    ),
)
"""The gauges of every service's database."""


class Gauges(Collector):
    """Collects the last values of its sources.

    Parameters
    ----------
    sources
        Functions that query gauges. Each runs independently, so that one unavailable source does not affect the others.
    """

    def __init__(self, sources: Iterable[Callable[[], list[GaugeMetricFamily]]]) -> None:
        self._sources = [_CachedSource(source) for source in sources]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the last values, and start a new query for those that are out of date."""
        for view in self._sources:
            yield from view.families()


class _CachedSource:
    """One source and its last result. Only one query runs at a time, however long it takes."""

    def __init__(self, query: Callable[[], list[GaugeMetricFamily]]) -> None:
        self._query = query
        self._families: list[GaugeMetricFamily] = []
        self._queried_at = float("-inf")
        self._refresh_after = FRESH
        self._querying = threading.Lock()

    def families(self) -> list[GaugeMetricFamily]:
        age = time.monotonic() - self._queried_at
        if age > self._refresh_after and self._querying.acquire(blocking=False):
            threading.Thread(target=self._refresh, name="gauges", daemon=True).start()
        return self._families if age < STALE else []

    def _refresh(self) -> None:
        start = time.monotonic()
        try:
            families = self._query()
        except Exception:  # an unavailable source shows as missing gauges and in the health checks
            families = []
        self._families, self._queried_at = families, time.monotonic()
        self._refresh_after = min(max(FRESH, (self._queried_at - start) / MAX_SHARE), MAX_INTERVAL)
        self._querying.release()


def query_gauges(database: "Database", gauges: Iterable[Gauge]) -> list[GaugeMetricFamily]:
    """Query a database for these gauges, each statement in its own transaction, so that no table stays locked.

    Raises
    ------
    DatabaseUnavailable
        If the database is unavailable.
    """
    with database.statements() as connection:
        return [family(gauge, gauge.samples(connection)) for gauge in gauges]


def family(gauge: Gauge, samples: Iterable[Sample]) -> GaugeMetricFamily:
    """Return the metric family of a gauge with its samples."""
    metric = GaugeMetricFamily(gauge.name, gauge.documentation, labels=gauge.labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric
