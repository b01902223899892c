"""Metrics: the services' own, and Prometheus' queries, targets, alerts and charts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import pandas as pd
from prometheus_client.parser import text_string_to_metric_families

from labkit.inspect.scope import Scope
from labkit.inspect.sources.prometheus import Prometheus
from labkit.views import dashboards
from labkit.views.drawing.chart import chart
from labkit.waiting import wait_until


class Metrics:
    """Queries Prometheus, and the services' own metrics.

    Parameters
    ----------
    scope : Scope
        The lab.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def value(self, service: str, name: str, **labels: str) -> int:
        """Return a service's metric since its start: the sum over all labels that are not given.

        The value comes from the service's ``/metrics``, not from Prometheus. An additional version has the name that
        the lab uses: ``order-v2``.
        """
        text = self._scope.get(service, "/metrics").text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return int(sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items()))

    @property
    def prometheus(self) -> Prometheus:
        """The client of this lab's Prometheus; its queries raise `NoPrometheus` if the lab has none."""
        return Prometheus(self._scope.lab.endpoints.prometheus)

    def query(self, expression: str, at: float | None = None) -> pd.DataFrame:
        """Return the current value of a PromQL expression: a row for each series, its labels and its ``value``.

        Parameters
        ----------
        expression : str
            PromQL.
        at : float, optional
            Seconds since 1970; now by default.

        Raises
        ------
        QueryFailed
            Prometheus rejects the expression; the message contains its error.
        NoPrometheus
            The lab has no Prometheus, or it does not answer.
        """
        return self.prometheus.query(expression, at)

    def number(self, expression: str, at: float | None = None) -> float:
        """Return the current value of a PromQL expression that has exactly one."""
        return self.prometheus.number(expression, at)

    def targets(self) -> pd.DataFrame:
        """Return the targets that Prometheus scrapes, and whether they answer."""
        return self.prometheus.targets()

    def alerts(self) -> pd.DataFrame:
        """Return the alerts that are pending or firing."""
        return self.prometheus.alerts()

    def exemplars(self, expression: str, seconds: float = 300) -> pd.DataFrame:
        """Return a histogram's exemplars of the last seconds, each with its trace."""
        return self.prometheus.exemplars(expression, seconds)

    def chart(
        self,
        expressions: str | Mapping[str, str],
        *,
        seconds: float = 60,
        marks: Mapping[str, float] | Sequence[tuple[str, float]] = (),
        title: str = "",
        unit: str = "",
    ) -> None:
        """Draw PromQL over the last seconds; `marks` are moments (``time.time()``), each with a label."""
        chart(self.prometheus, expressions, seconds=seconds, marks=marks, title=title, unit=unit)

    def dashboard(self, name: str, minutes: float = 5) -> None:
        """Draw one of Grafana's dashboards: ``saga``, ``services``, ``relay`` or ``gateway``."""
        dashboards.draw(name, self.prometheus, minutes)

    def now(self) -> float:
        """Wait until Prometheus has scraped every service once more, and return the time as a starting point."""
        moment = time.time()
        # A Prometheus that has just started scrapes its first target after five seconds, and not all at the same time.
        scraped = '(timestamp(up{job="services"}) and up{job="services"} == 1)'
        services = len(self._scope.lab.endpoints.services)
        newest = f"min({scraped}) > {moment:.3f} and count({scraped}) >= {services}"
        wait_until(lambda: len(self.query(newest)), 20, what="Prometheus to scrape the services once more")
        return time.time()
