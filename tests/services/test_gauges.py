"""The frequency of gauge queries: one per scrape, unless the queries are slow."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from prometheus_client.core import GaugeMetricFamily

from labservices.telemetry import gauges
from labstack.waiting import wait_until


class ClockedSource:
    """A source with a fake clock, which each query advances by a number of seconds."""

    def __init__(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.queries, self._seconds = 100.0, 0, seconds
        monkeypatch.setattr(gauges, "time", SimpleNamespace(monotonic=lambda: self.now))
        self._view = gauges._CachedSource(self._query)
        self.scrape(0)

    def _query(self) -> list[GaugeMetricFamily]:
        self.queries += 1
        self.now += self._seconds
        return []

    def scrape(self, after: float) -> int:
        """Scrape after some seconds, and return the number of queries so far."""
        self.now += after
        self._view.families()
        assert wait_until(lambda: not self._view._querying.locked(), 10)
        return self.queries


def test_fast_gauge_is_queried_at_each_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast gauge is queried at each scrape, and two scrapes at the same time share one query."""
    source = ClockedSource(0.008, monkeypatch)
    assert [source.scrape(1), source.scrape(0.1), source.scrape(0.9)] == [2, 2, 3]


def test_slow_gauge_is_queried_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a query of 40 ms, no query runs for two seconds."""
    source = ClockedSource(0.04, monkeypatch)
    assert [source.scrape(1), source.scrape(1.1), source.scrape(1)] == [1, 2, 2]


def test_slow_gauge_is_queried_again_before_it_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two and a half seconds a query runs again, however long the last one took."""
    source = ClockedSource(1.5, monkeypatch)
    assert [source.scrape(1), source.scrape(1.6)] == [1, 2]
    assert gauges.MAX_INTERVAL + 1.5 + 1 <= gauges.STALE
