"""Metrics: the services' own, and Prometheus' queries, targets, alerts and charts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import pandas as pd
from prometheus_client.parser import text_string_to_metric_families

from labkit.errors import KitError
from labkit.inspect.scope import Scope
from labkit.sources.alertmanager import AlertmanagerClient
from labkit.sources.prometheus import PrometheusClient
from labkit.views import dashboards
from labkit.views.drawing.chart import chart
from labkit.waiting import wait_until
from labstack.arguments import Positive, checked_class
from labstack.errors import one_of

SUFFIXES = ("", "_total", "_count", "_sum", "_bucket", "_created")
"""What the names of samples add to the name of their metric."""


@checked_class
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
        families = list(text_string_to_metric_families(self._scope.get(service, "/metrics").text))
        samples = [sample for family in families for sample in family.samples]
        known = dict.fromkeys(sample.name for sample in samples)
        # A metric has no sample before its first event if the values of its labels are not known in advance.
        if name not in known and not any(name.removesuffix(end) == one.name for one in families for end in SUFFIXES):
            raise KitError(f"{service} has no metric {name!r}.", next_step=one_of(name, known))
        used = dict.fromkeys(label for sample in samples if sample.name == name for label in sample.labels)
        if used and (unknown := next((label for label in labels if label not in used), None)):
            raise KitError(f"{name} has no label {unknown!r}.", next_step=one_of(unknown, used))
        return int(sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items()))

    @property
    def prometheus(self) -> PrometheusClient:
        """The client of this lab's Prometheus; its queries raise `NoPrometheus` if the lab has none."""
        return PrometheusClient(self._scope.lab.endpoints.prometheus)

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

    @property
    def alertmanager(self) -> AlertmanagerClient:
        """The client of this lab's Alertmanager; ``alerts()`` raises `NoAlertmanager` if the lab has none."""
        return AlertmanagerClient(self._scope.lab.endpoints.alertmanager)

    def exemplars(self, expression: str, seconds: Positive = 300) -> pd.DataFrame:
        """Return a histogram's exemplars of the last seconds, each with its trace."""
        return self.prometheus.exemplars(expression, seconds)

    def chart(
        self,
        expressions: str | Mapping[str, str],
        *,
        seconds: Positive = 60,
        marks: Mapping[str, float] | Sequence[tuple[str, float]] = (),
        title: str = "",
        unit: str = "",
    ) -> None:
        """Draw PromQL over the last seconds; `marks` are moments (``time.time()``), each with a label."""
        chart(self.prometheus, expressions, seconds=seconds, marks=marks, title=title, unit=unit)

    def dashboard(self, name: str, minutes: Positive = 5) -> None:
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
