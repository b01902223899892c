"""Observability in a notebook, from Prometheus and Jaeger: metrics, alerts, traces, timelines."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pandas as pd

from labkit.aliases import Aliases
from labkit.client.shop import Order
from labkit.errors import KitError
from labkit.inspect.prometheus import Prometheus
from labkit.inspect.traces import FileSource, JaegerSource, NoTraces, Source
from labkit.views import dashboards
from labkit.views.drawing.chart import chart
from labkit.views.drawing.timeline import Timeline, steps_of
from labkit.views.drawing.waterfall import Waterfall
from labkit.waiting import wait_until
from labstack import Lab
from labstack.clients import broker
from labstack.state import StateStore

QUIET = 1.0
"""Seconds without a new span after which a trace counts as complete; services export their spans every 0.5 s."""


class Observability:
    """The part of `Look` that queries Prometheus and the traces."""

    _lab: Lab
    aliases: Aliases

    def _id(self, order: Order | str) -> str:
        return order.order_id if isinstance(order, Order) else self.aliases.id(order)

    @abstractmethod
    def wait_for_rest(self, orders: Any, without: str | None = None, timeout: float = 30) -> None:
        """Wait until these orders have no more events in flight."""

    @property
    def prometheus(self) -> Prometheus:
        """The client of this lab's Prometheus; its queries raise `NoPrometheus` if the lab has none."""
        return Prometheus(self._lab.endpoints.prometheus)

    def promql(self, expression: str, at: float | None = None) -> pd.DataFrame:
        """Return the current value of a PromQL expression: a row for each series, its labels and its ``value``.

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
        newest = f"min({scraped}) > {moment:.3f} and count({scraped}) >= {len(self._lab.endpoints.services)}"
        wait_until(lambda: len(self.promql(newest)), 20, what="Prometheus to look at the services once more")
        return time.time()

    # -- traces ----------------------------------------------------------------------------------------------------

    @property
    def _traces(self) -> Source:
        endpoints = self._lab.endpoints
        if endpoints.jaeger:
            return JaegerSource(endpoints.jaeger)
        if not StateStore(self._lab.paths).read().observed:
            raise NoTraces(
                "This lab keeps no traces: it was started with LAB_OBSERVABILITY=off.",
                next_step="`lab down`, unset LAB_OBSERVABILITY, `lab up`",
            )
        names, extensions = [*endpoints.services, *endpoints.versions], self._lab.extensions
        return FileSource(
            lambda: [
                *(self._lab.backend.spans(name) for name in names),
                *(extensions.spans(name) for name in extensions.names),
            ]
        )

    def traces(self, order: Order | str, timeout: float = 20) -> list[Waterfall]:
        """Return the traces that mention an order, oldest first: one, unless the trace was cut."""
        order_id = self._id(order)
        self.wait_for_rest(order, timeout=timeout)
        source = self._traces
        before, since = -1, time.monotonic()

        def is_quiet() -> list[Any]:
            nonlocal before, since
            found = source.of_order(order_id)
            count = sum(len(trace.spans) for trace in found)
            if count != before:
                before, since = count, time.monotonic()
            return found if time.monotonic() - since > QUIET else []

        found = wait_until(is_quiet, timeout, what=f"the spans of {self.aliases.tidy(order_id)}", interval=0.15)
        return [Waterfall(trace) for trace in found]

    def traces_so_far(self, order: Order | str) -> list[Waterfall]:
        """Return the traces that mention an order, with the spans that are available now."""
        return [Waterfall(trace) for trace in self._traces.of_order(self._id(order))]

    def trace(self, what: Order | str, timeout: float = 20) -> Waterfall:
        """Return the trace of an order, or the one with a trace id.

        Raises
        ------
        NoTraces
            The lab stores no traces, or the trace store does not answer.
        WaitTimedOut
            There is no such trace.
        """
        if isinstance(what, str) and len(what) == 32 and not what.startswith("order"):
            found = wait_until(partial(self._traces.trace, what), timeout, what=f"the trace {what}")
            assert found is not None  # else the wait has raised
            return Waterfall(found)
        return self.traces(what, timeout)[0]

    # -- the path of an order ----------------------------------------------------------------------------------------

    def timeline(self, order: Order | str) -> Timeline:
        """Return what happened to an order, when and where: from outbox rows, records and inboxes."""
        order_id = self._id(order)
        endpoints = self._lab.endpoints
        times: dict[str, list[datetime]] = defaultdict(list)
        for record in broker.read_all(endpoints.kafka, [f"{service}.events" for service in endpoints.services]):
            if record.key == order_id:
                times[record.headers.get("ce_id") or ""].append(datetime.fromtimestamp(record.time / 1000, UTC))
        steps = steps_of(order_id, endpoints.databases, times)
        if not steps:
            raise KitError(f"There is no order {order!r}.", next_step="`list(shop.orders())` shows which there are")
        return Timeline(str(self.aliases.tidy(order_id, "order_id")), steps)
