"""The exercises of notebook 09."""

from __future__ import annotations

import math
import random
from typing import Any

import pandas as pd

from labkit.errors import KitError, QueryFailed
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.waiting import wait_until

HANDLED = "event_handling_seconds_bucket"
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
    tip = 'The counter is saga_orders_total. Select {outcome="cancelled"}, and keep one label: sum by (reason) (...).'
    answer = """answer = 'sum by (reason) (saga_orders_total{outcome="cancelled"})'"""
    why = (
        "A counter has one series for each combination of labels, and for each process. sum by (reason) adds up all "
        "series that differ in other labels. Without `by` it adds up even the reasons; without sum every process has "
        "its own line, and with a second order service you would see each reason twice."
    )
    mistakes = (
        Wrong("answer = 'sum(saga_orders_total{outcome=\"cancelled\"})'", "label"),
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
            return wrong(f"Your numbers are {mine}, which are not the counts of cancelled orders.")
        return right(f"{len(mine)} reasons, {sum(mine.values()):.0f} orders.")


class ShareOfErrors(PromqlExercise):
    """A ratio of two rates."""

    name = "share-of-errors"
    title = "PromQL: which share of the responses to order requests was a 4xx in the last 5 minutes (from 0 to 1)"
    tip = (
        'Divide one sum of rates by another. status=~"4.." matches every status that begins with a 4, and '
        'route=~"/orders.*" matches the requests for orders.'
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


class SlowestTwentieth(PromqlExercise):
    """A quantile of summed histograms."""

    name = "slowest-twentieth"
    title = "PromQL: within how many seconds were 95% of the events of the last 5 minutes handled, by service"
    tip = (
        "From the inside out: the rate of each bucket (event_handling_seconds_bucket), a sum that keeps two labels, "
        "and histogram_quantile(0.95, ...) around it. Which label does the question name, and which one does "
        "histogram_quantile need?"
    )
    answer = """
        answer = 'histogram_quantile(0.95, sum by (service, le) (rate(event_handling_seconds_bucket[5m])))'
    """
    why = (
        "You may add up the buckets of many series, because they are counts: that is the purpose of histograms. You "
        "may not average quantiles: the mean of four 95% quantiles is not the 95% quantile of anything. Keep `le` in "
        "the sum, because it identifies the bucket."
    )
    mistakes = (
        Wrong("answer = 'histogram_quantile(0.95, sum by (service) (rate(event_handling_seconds_bucket[5m])))'", "le"),
        Wrong(
            "answer = 'histogram_quantile(0.95, sum by (le) (rate(event_handling_seconds_bucket[5m])))'", "one number"
        ),
        Wrong(
            "answer = 'avg by (service) (histogram_quantile(0.95, rate(event_handling_seconds_bucket[5m])))'",
            "quantiles",
        ),
        Wrong(
            "answer = 'histogram_quantile(95, sum by (service, le) (rate(event_handling_seconds_bucket[5m])))'", "0.95"
        ),
    )
    expected = f"histogram_quantile(0.95, sum by (service, le) (rate({HANDLED}[5m])))"

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        for _ in range(5):
            order(bench, "ada")
        bench.look.metrics.now()
        return "Five orders went through all four services.", {}

    def compare(self, found: pd.DataFrame, wanted: pd.DataFrame) -> Verdict:
        mine, truth = series(found, "service"), series(wanted, "service")
        if len(found) and "service" not in found:
            return wrong("That is one number for all four services. Keep the labels `service` and `le`.")
        if not mine:
            return wrong("The result is empty. histogram_quantile needs the edge of each bucket: keep the label le.")
        if any(math.isinf(value) for value in mine.values()):
            return wrong("A quantile of 95 is above every value: write it as 0.95.")
        if set(mine) != set(truth) or not all(math.isclose(mine[one], truth[one], rel_tol=0.02) for one in truth):
            return wrong(
                "That is a different result. Do you add up buckets, or quantiles? Only buckets can be added up."
            )
        return right("One line for each service, from all its buckets.")


class WhoIsSlow(Exercise):
    """Find the slow service by metrics alone."""

    name = "who-is-slow"
    title = "Orders take much too long today. Which service is slow?"
    tip = (
        "The time in a handler is event_handling_seconds; its sum divided by its count is the mean since the service "
        "started. Group it by service."
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


class WhichDiskFills(Exercise):
    """Read alerts: one fault has several symptoms."""

    name = "which-disk-fills"
    title = "One fault causes several alerts. Which of them warns that a disk may fill up?"
    tip = (
        "look.metrics.alerts() shows the firing alerts; look.metrics.prometheus.rules() has every expression. "
        "Which one is about the "
        "write-ahead log?"
    )
    answer = """
        answer = next(alert for alert in look.metrics.alerts().alert if "Wal" in alert)
    """
    why = (
        "Connect is down. The tasks that do not run are the cause; the stuck orders are what customers notice; the "
        "log that PostgreSQL retains for an absent reader will stop the database tomorrow. Good alerts report each of "
        "these, and link to the runbook."
    )
    mistakes = (
        Wrong("answer = 'DebeziumNotConnected'", "cause"),
        Wrong("answer = 'TargetDown'", "cause"),
        Wrong("answer = 'ConsumerLagGrowing'", "does not fire"),
        Wrong("answer = 'OrdersStuck'", "customers"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.stop("connect")
        bench.shop.place_order("ada", "lisbon", {"earl-grey": 1})

        def several() -> bool:
            alerts = bench.look.metrics.alerts()
            return {"SlotRetainsWal", "DebeziumNotConnected"} <= set(alerts.alert[alerts.state == "firing"])

        wait_until(several, 40, what="the alerts to fire")
        return "The lab has a fault, and the alerts fire.", {}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        firing = set(bench.look.metrics.alerts().alert)
        if answer == "OrdersStuck":
            return wrong("That is what customers notice. Which alert is about PostgreSQL's log?")
        if answer == "TargetDown":
            return wrong("That Connect exports no metrics points to the cause. Which alert is about PostgreSQL's log?")
        if answer not in firing:
            listed = ", ".join(sorted(firing)) or "none"
            return wrong(f"{answer} does not fire. look.metrics.alerts() shows the firing alerts: {listed}.")
        if answer == "DebeziumNotConnected":
            return wrong("That alert reports the cause. Which alert reports what grows because of it?")
        if answer != "SlotRetainsWal":
            return wrong("Look at its expression: is it about the write-ahead log?")
        return right(
            "The slots have no reader, so PostgreSQL retains its log, up to 512 MB. Then it invalidates the slots."
        )

    def cleanup(self, bench: Bench) -> str:
        bench.lab.start("connect")
        wait_until(lambda: bench.lab.status(memory=False).state == "ready", 30, what="the lab to be ready")
        return "Connect is running, and the waiting rows are being published."


EXERCISES = (WhyOrdersFail(), ShareOfErrors(), SlowestTwentieth(), WhoIsSlow(), WhichDiskFills())
