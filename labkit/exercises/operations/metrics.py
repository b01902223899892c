"""The exercises of notebook 09; the last one is in `alerting.py`.

Source of a panel's format: Grafana's documentation, "Dashboard JSON model".
"""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pandas as pd

from labkit.errors import KitError, QueryFailed
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.operations.alerting import BudgetAlert
from labkit.views import dashboards

QUANTILE = "histogram_quantile(0.95, sum by (service, le) (rate(event_handling_seconds_bucket[$__rate_interval])))"
SECONDS = 120.0
DAY_STEP = 360.0
"""Seconds between two points of a chart of 24 hours, which has about 240 points."""

SECONDS_UNIT = "s"

SLOWED = ("inventory", "payment", "shipping")


def order(bench: Bench, customer: str, sku: str = "earl-grey", quantity: int = 1) -> str:
    """Place an order, wait until it ends, and return its id."""
    placed = bench.shop.place_order(customer, "lisbon", {sku: quantity})
    return bench.shop.follow(placed).order_id


class PromqlExercise(Exercise):
    """Asks for PromQL; the check evaluates the answer and the expected expression at the same moment."""

    expected: str

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, str):
            return wrong("The answer is a PromQL expression, as a string.")
        moment = bench.look.metrics.now()
        try:
            found = bench.look.metrics.query(answer, at=moment)
        except QueryFailed as error:
            return wrong(error.problem)
        except KitError as error:
            return untouched(f"{error.problem} {error.next_step}")
        wanted = bench.look.metrics.query(self.expected, at=moment)
        return self.compare(found, wanted)

    def compare(self, found: pd.DataFrame, wanted: pd.DataFrame) -> Verdict:
        """Compare the learner's series with the expected ones, and return the verdict."""
        raise NotImplementedError


def series(table: pd.DataFrame, label: str) -> dict[str, float]:
    """Return the values of a table, by a label."""
    return dict(zip(table[label], table["value"], strict=True)) if label in table else {}


class WhyOrdersFail(PromqlExercise):
    """Aggregate away the labels that the question does not ask for."""

    name = "why-orders-fail"
    title = "PromQL: how many orders were cancelled since the services started, by reason"
    kind = "query"
    level = 1
    minutes = 4
    hints = (
        (
            "Look at look.metrics.query('saga_orders_total'): which labels does a series have, and which of "
            "their values mean a cancelled order?"
        ),
        ("Use a selector in braces, and `sum by (label)` around it, with the one label that the question names."),
        ("It begins:\n    answer = 'sum by (reason) (...'"),
    )
    answer = """answer = 'sum by (reason) (saga_orders_total{outcome="cancelled"})'"""
    why = (
        "A counter has one series for each combination of labels, and for each process. sum by (reason) adds up all "
        "series that differ in other labels. Without `by` it adds up even the reasons; without sum every process has "
        "its own line, and with a second order service you would see each reason twice."
    )
    mistakes = (
        Wrong("answer = 'sum(saga_orders_total{outcome=\"cancelled\"})'", "label"),
        Wrong("answer = '1.0001 * sum by (reason) (saga_orders_total{outcome=\"cancelled\"})'", "orders are whole"),
        Wrong("answer = 'sum by (reason) (saga_orders_total)'", "completed"),
        Wrong("answer = 'saga_orders_total{outcome=\"cancelled\"}'", "sum"),
        Wrong("answer = 'sum by (reason saga_orders_total'", "parse error"),
        Wrong("answer = 'sum by (reason) (saga_orders_total{outcome=\"CANCELLED\"})'", "their values"),
    )
    expected = 'sum by (reason) (saga_orders_total{outcome="cancelled"})'

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        for customer in ("nobody", "nobody", "ada"):
            order(bench, customer, "first-snow-white", 200 if customer == "ada" else 1)
        return "Three orders were placed that had to fail.", {}

    def compare(self, found: pd.DataFrame, wanted: pd.DataFrame) -> Verdict:
        if not len(found):
            return wrong(
                "No series matches. look.metrics.query('saga_orders_total') shows the labels and their values."
            )
        if "reason" not in found:
            return wrong("Your series no longer have the label `reason`: the sum is one number. Keep the label.")
        if set(found.columns) != {"reason", "value"}:
            return wrong("Each process has its own line, with all its labels. Add them up with sum by (reason).")
        if "" in set(found.reason) or found.reason.isna().any():
            return wrong(
                "There is a line without a reason: it counts the orders that were completed. Select only the others."
            )
        mine, truth = ({reason: n for reason, n in series(one, "reason").items() if n} for one in (found, wanted))
        if mine != truth:
            if any(number % 1 for number in mine.values()):
                return wrong(
                    f"Your numbers are {mine}, and orders are whole. rate and increase estimate the growth within a "
                    "window. The counter itself holds what was counted since the start."
                )
            return wrong(f"Your numbers are {mine}, which are not the counts of cancelled orders.")
        return right(f"{sum(mine.values()):.0f} orders, by reason: {', '.join(sorted(mine))}.")


class ShareOfErrors(PromqlExercise):
    """A ratio of two rates."""

    name = "share-of-errors"
    title = "PromQL: what share of the responses to order requests had a 4xx status in the last 5 minutes (from 0 to 1)"
    kind = "query"
    level = 2
    minutes = 5
    hints = (
        (
            "Look at `share` in the section *Errors*: it is a rate divided by a rate. Which requests does "
            "each side count, and over how long?"
        ),
        (
            'Use sum(rate(http_requests_total{...}[5m])) twice, the first time with status=~"4.." as well. '
            'Both sides need service="order" and route=~"/orders.*".'
        ),
        (
            "It begins:\n"
            '    answer = \'\'\'sum(rate(http_requests_total{service="order", route=~"/orders.*", status=~"4.."}[5m]))'
        ),
    )
    answer = """
        answer = '''
            sum(rate(http_requests_total{service="order", route=~"/orders.*", status=~"4.."}[5m]))
            / sum(rate(http_requests_total{service="order", route=~"/orders.*"}[5m]))
        '''
    """
    why = (
        "First the rate of each series, then the sum, then the quotient. rate before sum: rate must see when a "
        "counter restarts at 0. sum before the quotient: a division pairs series with equal labels, and the series of "
        "a 404 have no partner."
    )
    mistakes = (
        Wrong('answer = \'sum(rate(http_requests_total{service="order", status=~"4.."}[5m]))\'', "divide"),
        Wrong(
            'answer = \'rate(http_requests_total{service="order", status=~"4.."}[5m])'
            ' / rate(http_requests_total{service="order"}[5m])\'',
            "partner",
        ),
        Wrong(
            'answer = \'sum(rate(http_requests_total{service="order", status=~"4.."}[5m]))'
            ' / sum(rate(http_requests_total{service="order"}[5m]))\'',
            "Prometheus itself",
        ),
        Wrong("answer = 0.25", "as a string"),
    )
    expected = (
        'sum(rate(http_requests_total{service="order", route=~"/orders.*", status=~"4.."}[5m]))'
        ' / sum(rate(http_requests_total{service="order", route=~"/orders.*"}[5m]))'
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.shop.traffic(1, "/orders/no-order")
        bench.look.metrics.now()  # a new series has no increase yet
        bench.shop.traffic(30)
        bench.shop.traffic(10, "/orders/no-order")
        bench.look.metrics.now()
        return "30 valid requests and 10 invalid ones were sent.", {}

    def compare(self, found: pd.DataFrame, wanted: pd.DataFrame) -> Verdict:
        if not len(found):
            return wrong(
                "Your expression returns no value: a selector matches no series. Try each side alone. A regular "
                'expression needs =~: status="4.." is the status that consists of a 4 and two dots.'
            )
        if len(found) != 1:
            return wrong(
                f"Your expression returns {len(found)} values. A division pairs series with equal labels, and a 200 "
                "is no partner for a 404: add up each side first."
            )
        share, truth = float(found.value[0]), float(wanted.value[0])
        if not math.isclose(share, truth, rel_tol=0.03):
            return wrong(
                f"Your result is {share:.3f}, but the share is {truth:.3f}. Do you divide the 4xx by all responses to "
                "requests for orders, and by no others? (Prometheus itself requests /metrics each second.)"
            )
        return right(f"{share:.1%} of the responses.")


def panel(
    expression: str = QUANTILE, legend: str = "{{service}}", unit: str = SECONDS_UNIT, kind: str = "timeseries"
) -> str:
    """Return a panel with one query, as code of a learner."""
    return f'''
answer = """
{{
  "type": "{kind}",
  "title": "95% of the events are handled within",
  "datasource": {{"type": "prometheus", "uid": "prometheus"}},
  "fieldConfig": {{"defaults": {{"unit": "{unit}"}}, "overrides": []}},
  "targets": [
    {{
      "refId": "A",
      "expr": "{expression}",
      "legendFormat": "{legend}"
    }}
  ]
}}
"""
'''


class PanelOfQuantiles(Exercise):
    """A panel of a dashboard: a quantile of summed histograms, with unit, legend and interval."""

    name = "slowest-twentieth"
    title = "A panel for Grafana: within how many seconds were 95% of the events handled, by service"
    kind = "config"
    level = 2
    minutes = 14
    hints = (
        "lab-stack/grafana/dashboards/services.json has panels of this form: type, title, fieldConfig, targets. "
        "Build the query from the inside out, with look.metrics.query, before you put it into the panel.",
        "The rate of each bucket over [$__rate_interval], a sum that keeps the label that the question names and the "
        "one that histogram_quantile(0.95, ...) needs. The unit of seconds is `s`, and the legend {{service}}.",
        'The query begins:\n    "expr": "histogram_quantile(0.95, sum by (service, le) (rate(event_handling_seconds...',
    )
    answer = panel()
    why = (
        "You may add up the buckets of many series, because they are counts: that is the purpose of histograms. You "
        "may not average quantiles. Grafana replaces $__rate_interval with a window that fits the zoom and holds at "
        "least four scrapes, so the panel is true for five minutes and for a month. Unit and legend are what makes it "
        "readable at three in the morning."
    )
    mistakes = (
        Wrong(panel(QUANTILE.replace("service, le", "service")), "no line"),
        Wrong(panel(QUANTILE.replace("service, le", "le")), "one line"),
        Wrong(panel(QUANTILE.replace("(0.95", "(95")), "infinite"),
        Wrong(
            panel("avg by (service) (histogram_quantile(0.95, rate(event_handling_seconds_bucket[$__rate_interval])))"),
            "quantiles",
        ),
        Wrong(panel(QUANTILE.replace("$__rate_interval", "30s")), "24 hours"),
        Wrong(panel(legend=""), "legend"),
        Wrong(panel(unit="short"), "unit"),
        Wrong(panel(kind="stat"), "timeseries"),
        Wrong(panel(QUANTILE.replace("sum by", "sum bye")), "parse error"),
        Wrong('answer = \'{"type": "timeseries",}\'', "JSON"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        for _ in range(5):
            bench.shop.follow(bench.shop.place_order("ada", "lisbon", {"earl-grey": 1}))
        return "Five orders went through all four services.", {"moment": bench.look.metrics.now()}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            document = json.loads(answer) if isinstance(answer, str) else answer
        except ValueError as error:
            return wrong(f"Grafana could not import this, because it is no JSON: {error}.")
        try:
            kind, unit = document["type"], document.get("fieldConfig", {}).get("defaults", {}).get("unit")
            ((legend, expression),) = [(one.get("legendFormat", ""), one["expr"]) for one in document["targets"]]
        except (LookupError, AttributeError, TypeError, ValueError):
            return wrong(
                "Grafana would show an empty panel. It needs a type, fieldConfig.defaults.unit, and targets: a list "
                "with one query, which has expr and legendFormat."
            )
        if kind != "timeseries":
            return wrong(f"A panel of the type {kind} shows one number. How it changed needs the type timeseries.")
        try:
            shown = self._series(bench, str(expression), str(legend))
        except QueryFailed as error:
            return wrong(error.problem)
        except KitError as error:
            return untouched(f"{error.problem} {error.next_step}")
        return self._verdict(bench, str(expression), unit, shown)

    def _series(self, bench: Bench, expression: str, legend: str) -> pd.DataFrame:
        """Return what the panel shows of the minutes before the setup's end: a column for each line."""
        shown = dashboards.Panel("", "", SECONDS_UNIT, "timeseries", [(legend, expression)], (0, 0, 24, 8))
        return dashboards.series_of(shown, bench.look.metrics.prometheus, SECONDS, bench.given.moment)

    def _verdict(self, bench: Bench, expression: str, unit: Any, shown: pd.DataFrame) -> Verdict:
        wanted = self._series(bench, QUANTILE, "{{service}}")
        if shown.empty:
            return wrong(
                "The panel shows no line. histogram_quantile needs the edge of each bucket: keep the label le."
            )
        if shown.isin([math.inf]).any(axis=None):
            return wrong("Every value is infinite, and the panel stays empty. A quantile of 95% is written 0.95.")
        if len(shown.columns) == 1:
            return wrong(
                "The panel shows one line for all four services (or four with the same name, if the legend names no "
                "label): a slow one would hide behind the others. Keep the label service, in the query and the legend."
            )
        if set(shown.columns) != set(wanted.columns):
            return wrong(
                f"The legend names the lines {', '.join(sorted(map(str, shown.columns)))[:80]}: not the services."
            )
        if expression == dashboards.filled(expression, DAY_STEP, 240 * DAY_STEP):
            return wrong(
                f"Good for a few minutes. But in a chart of 24 hours each point stands for {DAY_STEP / 60:.0f} "
                "minutes, and your fixed window would leave out most events between two points. Use $__rate_interval."
            )
        if not all((shown[one] - wanted[one]).abs().max() < 0.01 * max(wanted[one].max(), 0.001) for one in wanted):
            return wrong("These are other values. Do you add up buckets, or quantiles? Only buckets can be added up.")
        if unit != SECONDS_UNIT:
            return wrong(
                f"The lines are right, but the unit is {unit!r}, so the axis says 0.025 where it should say 25 ms."
            )
        newest = ", ".join(f"{name} {1000 * shown[name].max():.0f} ms" for name in sorted(map(str, shown)))
        return right(f"The panel shows a line for each service, at most {newest}.")


class WhoIsSlow(Exercise):
    """Find the slow service by metrics alone."""

    name = "who-is-slow"
    title = "Orders take much too long today. Which service is slow?"
    kind = "diagnosis"
    level = 1
    minutes = 4
    hints = (
        (
            "Look at the section *Duration*: a service's handlers record their time in the histogram "
            "event_handling_seconds. Who waits is not slow."
        ),
        (
            "Use its _sum divided by its _count, both as `sum by (service)`: the mean per event since the "
            "service started."
        ),
        ("It begins:\n    look.metrics.query('sum by (service) (event_handling_seconds_sum) / ...')"),
    )
    answer = """
        sums = "sum by (service) (event_handling_seconds_{})"
        means = look.metrics.query(sums.format("sum") + " / " + sums.format("count"))
        answer = means.service[means.value.idxmax()]
    """
    why = (
        "Every order is slow, but only one service's handlers are. The others wait, and a service that waits looks "
        "idle in its own metrics. That is why you look at RED for each service separately. The counters were enough "
        "here, because the slow service was restarted when it became slow; for the mean of the last minute, use the "
        "rate of both."
    )
    mistakes = (
        Wrong("answer = 'order'", "handlers"),
        Wrong(
            "answer = next(one for one in ('inventory', 'payment', 'shipping') if one not in lab.faults.active)",
            "handlers",
        ),
        Wrong("answer = 'debezium'", "four services"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        heal(bench)
        bench.lab.faults.on(random.choice(SLOWED), "slow-handler", "0.4")
        for _ in range(3):
            order(bench, "ada")
        bench.look.metrics.now()
        return "One service has become slow, and three orders went through.", {}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        answer = str(answer).strip().casefold()
        if answer not in bench.lab.endpoints.services:
            return wrong(f"{answer!r} is not one of the four services.")
        slow = [service for service, on in bench.lab.faults.active.items() if "slow-handler" in on]
        if not slow:
            return untouched("No service is slow any more: run the setup again.")
        if answer not in slow:
            return wrong(f"The handlers of {answer} are as fast as usual. Compare the means of all four.")
        return right(f"It is {answer}: 0.4 seconds for each event.")

    def cleanup(self, bench: Bench) -> str:
        heal(bench)
        return "Every service runs at normal speed."


def heal(bench: Bench) -> None:
    """Switch off every slow handler."""
    for service, on in list(bench.lab.faults.active.items()):
        if "slow-handler" in on:
            bench.lab.faults.off(service, "slow-handler")


EXERCISES = (WhyOrdersFail(), ShareOfErrors(), PanelOfQuantiles(), WhoIsSlow(), BudgetAlert())
