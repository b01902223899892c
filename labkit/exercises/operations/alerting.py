"""The last exercise of notebook 09: an alert on the error budget, tested by Prometheus and by its tool.

Source of the rule: Google's SRE Workbook, "Alerting on SLOs", "Multiwindow, Multi-Burn-Rate Alerts".
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labkit.errors import KitError
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.waiting import wait_until
from labstack.config import environment
from labstack.errors import LabError
from labstack.lab import access_of
from labstack.lifecycle.rules import InvalidRules
from labstack.observability.prometheus import promtool

ALERT = "ShopBurnsItsBudget"
SERIES = 'http_requests_total{{service="order",method="GET",route="/orders",status="{status}"}}'
CALM = 360
"""Minutes without an error before each story begins, as many as the longest window has."""

PER_MINUTE = 6000
EVALUATED = 4
"""Minutes between two evaluations of the rules; each story ends at one of them."""
TIMEOUT = 20
"""Seconds for promtool, which needs a fraction of one."""


@dataclass(frozen=True)
class TrafficStory:
    """Minutes of traffic with errors, and whether an engineer must be paged at its end.

    Attributes
    ----------
    phases : tuple of tuple
        Minutes and the share of requests that fail in them.
    pages : bool
        Whether the alert must fire at the end of the last phase.
    otherwise : str
        What a rule that decides otherwise does to the people who depend on it.
    """

    phases: tuple[tuple[int, float], ...]
    pages: bool
    otherwise: str

    @property
    def end(self) -> int:
        """The minute of its end, which differs from story to story and so names it in promtool's answer."""
        return CALM + sum(minutes for minutes, _ in self.phases)

    def test(self) -> dict[str, Any]:
        """Return the story as a test of ``promtool test rules``: its expression is 1 if the alert fires, else 0."""
        every = ((CALM, 0.0), *self.phases)
        firing = f'clamp_max(count(ALERTS{{alertname="{ALERT}",alertstate="firing"}}), 1) or vector(0)'
        return {
            "interval": "1m",
            "input_series": [
                {"series": SERIES.format(status=503), "values": _counter(every, failed=True)},
                {"series": SERIES.format(status=200), "values": _counter(every, failed=False)},
            ],
            "promql_expr_test": [
                {
                    "expr": firing,
                    "eval_time": f"{self.end}m",
                    "exp_samples": [{"labels": "{}", "value": int(self.pages)}],
                }
            ],
        }


def _counter(phases: tuple[tuple[int, float], ...], *, failed: bool) -> str:
    """Return the values of a counter, one a minute, in promtool's notation."""
    parts, total = [], 0
    for minutes, share in phases:
        step = round(PER_MINUTE * (share if failed else 1 - share))
        # START+STEPxN is the value START and then N more values, each larger by STEP.
        parts.append(f"{total}+{step}x{minutes - 1}")
        total += step * minutes
    return " ".join([*parts, str(total)])


STORIES = (
    TrafficStory(((20, 0.1),), True, "For 20 minutes each tenth request has failed, and no engineer was paged."),
    TrafficStory(
        ((200, 0.0005),),
        False,
        "One request in two thousand fails, which the objective allows, and your alert fires. Is it a share of the "
        "requests, and is its limit the burn rate times 0.001?",
    ),
    TrafficStory(
        ((20, 0.1), (12, 0.0)),
        False,
        "An outage was mended twelve minutes ago, and your alert still fires: the engineer can't tell whether the "
        "repair worked. A short window beside each long one ends the alert soon after the errors do.",
    ),
    TrafficStory(
        ((4, 0.1),),
        False,
        "Four minutes of errors have paged an engineer, although they cost less than one percent of the month's "
        "budget. A long window beside each short one asks whether it matters.",
    ),
    TrafficStory(
        ((240, 0.01),),
        True,
        "One request in a hundred has failed for four hours. At that speed the month's budget is gone in three days, "
        "and no engineer was paged. What does the second pair of windows say?",
    ),
)


def burning(share: str, *pairs: tuple[float, str, str]) -> str:
    """Return the expression that holds while both windows of one pair burn faster than its rate."""
    return " or ".join(
        f"({share.replace('WINDOW', long)} > {rate} * 0.001 and {share.replace('WINDOW', short)} > {rate} * 0.001)"
        for rate, long, short in pairs
    )


SHARE = (
    'sum(rate(http_requests_total{service="order", status=~"5.."}[WINDOW]))'
    ' / sum(rate(http_requests_total{service="order"}[WINDOW]))'
)
SOLUTION = f"""
groups:
  - name: budget
    rules:
      - record: order:http_errors:ratio_rate5m
        expr: {SHARE.replace("WINDOW", "5m")}
      - record: order:http_errors:ratio_rate30m
        expr: {SHARE.replace("WINDOW", "30m")}
      - record: order:http_errors:ratio_rate1h
        expr: {SHARE.replace("WINDOW", "1h")}
      - record: order:http_errors:ratio_rate6h
        expr: {SHARE.replace("WINDOW", "6h")}
      - alert: {ALERT}
        expr: >-
          order:http_errors:ratio_rate1h > 14.4 * 0.001 and order:http_errors:ratio_rate5m > 14.4 * 0.001
          or
          order:http_errors:ratio_rate6h > 6 * 0.001 and order:http_errors:ratio_rate30m > 6 * 0.001
        labels: {{severity: page}}
        annotations:
          summary: "{{{{ $value | humanizePercentage }}}} of the requests fail: the error budget burns too fast"
"""


def rule(expression: str, severity: str = "page") -> str:
    """Return a rule file with one alert, as code of a learner."""
    return f'''
answer = """
groups:
  - name: budget
    rules:
      - alert: {ALERT}
        expr: {expression}
        labels: {{severity: {severity}}}
"""
'''


FAST, SLOW = (14.4, "1h", "5m"), (6, "6h", "30m")


class BudgetAlert(Exercise):
    """A multi-window, multi-burn-rate alert."""

    name = "burn-rate-alert"
    title = "Write the alert that pages when the order service burns its error budget, and at no other time"
    kind = "config"
    level = 3
    minutes = 20
    hints = (
        "Look at alerting.rules.yml above for the form of the file, and at `share` above for the share of errors. "
        "The budget is 0.1% of the requests; a burn rate of 14.4 means that 14.4 times as many fail.",
        "Use four shares of 5xx, over 1h, 5m, 6h and 30m. Both windows of a pair must be over the limit (`and`), and "
        "one pair is enough (`or`). The limit of the first pair is 14.4 * 0.001.",
        "The file begins:\n    groups:\n      - name: budget\n        rules:\n"
        f"          - alert: {ALERT}\n            expr: >-\n"
        '              (sum(rate(http_requests_total{service="order", status=~"5.."}[1h]))\n              / ...',
    )
    answer = f'answer = """{SOLUTION}"""'
    why = (
        "The long window asks whether it matters, the short one whether it still goes on. The fast pair finds an "
        "outage within minutes (2% of the month's budget in an hour), the slow one a leak (5% in six hours). Recording "
        "rules compute each share once. The numbers are those of Google's SRE Workbook for 99.9%; with another "
        "objective only the 0.001 changes."
    )
    mistakes = (
        Wrong(rule(burning(SHARE, (14.4, "1h", "1h"), (6, "6h", "6h"))), "still fires"),
        Wrong(rule(burning(SHARE, (14.4, "5m", "5m"))), "less than one percent"),
        Wrong(rule(burning(SHARE, FAST)), "four hours"),
        Wrong(
            rule('sum(rate(http_requests_total{service="order", status=~"5.."}[5m])) > 0.0144'),
            "which the objective allows",
        ),
        Wrong(rule(SHARE.replace("WINDOW", "5m") + " > 0"), "which the objective allows"),
        Wrong(rule(burning(SHARE, FAST, SLOW).replace("0.001", "0.1")), "no engineer was paged"),
        Wrong(rule(burning(SHARE.replace("5..", "500"), FAST, SLOW)), "no engineer was paged"),
        Wrong(rule(burning(SHARE, FAST, SLOW)).replace("labels:", "for: 15m\n        labels:"), "delays each page"),
        Wrong(rule(burning(SHARE, FAST, SLOW), "urgent"), "severity"),
        Wrong(rule("sum(rate(http_requests_total[5m])) >"), "parse error"),
        Wrong("answer = 'alert: ShopBurnsItsBudget'", "groups"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.shop.traffic(20)
        bench.lab.stop("order-db")
        bench.look.metrics.now()
        bench.shop.traffic(40, at_once=4)
        moment = bench.look.metrics.now()
        bench.lab.start("order-db")
        wait_until(lambda: bench.shop.traffic(1).statuses == {200: 1}, 30, what="the order service to answer again")
        return "The order service's database was down for a moment, and 40 requests failed.", {"moment": moment}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, str):
            return wrong("The answer is a rule file, as a string of YAML.")
        tool = promtool(access_of(bench.lab).paths)
        if tool is None:
            return untouched("promtool, which tests the rule, is missing: `lab install prometheus` installs it.")
        try:
            bench.lab.extensions.rules.apply(answer)
        except InvalidRules as error:
            return wrong(f"{error.problem.rstrip('.')}: {error.next_step}.")
        except LabError as error:
            return untouched(f"{error.problem} {error.next_step}.")
        return self._verdict(bench, answer, tool)

    def _verdict(self, bench: Bench, answer: str, tool: Path) -> Verdict:
        mine = next((one for one in rules_of(answer) if one.get("alert") == ALERT), None)
        if mine is None:
            return wrong(f"Prometheus has loaded the file, but it contains no alert {ALERT}.")
        if mistaken := wrong_decisions(tool, answer):
            held = mine.get("for")
            delayed = f" `for: {held}` delays each page: the long window does that already." if held else ""
            return wrong(mistaken[0].otherwise + delayed)
        if (severity := (mine.get("labels") or {}).get("severity")) != "page":
            return wrong(
                f"The label severity is {severity!r}. Alertmanager routes by it, so this alert would reach no pager: "
                "the lab's own rules use page and ticket."
            )
        if not self._saw_the_errors(bench, answer, str(mine["expr"])):
            return wrong(
                "On artificial series the rule decides well, but at the setup's real errors (given.moment) it returns "
                "nothing in Prometheus. Which labels does look.metrics.query('http_requests_total') show?"
            )
        return right(
            f"Prometheus has loaded it. It would have fired at the setup's errors, and it decides all {len(STORIES)} "
            "stories as it should: two outages, a blip, a leak, and the errors that the objective allows."
        )

    def _saw_the_errors(self, bench: Bench, answer: str, expression: str) -> bool:
        """Return whether Prometheus returns something for the expression at the moment of the errors.

        Recorded series do not exist for that moment, so their expressions are inserted.
        """
        for one in rules_of(answer):
            if "record" in one:
                expression = expression.replace(one["record"], f"({one['expr']})")
        try:
            return len(bench.look.metrics.query(expression, at=bench.given.moment)) > 0
        except KitError:
            return False

    def cleanup(self, bench: Bench) -> str:
        bench.lab.extensions.rules.reset()
        wait_until(lambda: bench.lab.status(memory=False).state == "ready", 60, what="the relay to read its slot again")
        return "Prometheus has the lab's own rules again."


def rules_of(text: str) -> list[dict[str, Any]]:
    """Return the rules of a file that Prometheus has accepted."""
    return [one for group in yaml.safe_load(text)["groups"] for one in group.get("rules") or []]


def wrong_decisions(tool: Path, rules: str) -> list[TrafficStory]:
    """Return the stories that rules decide wrongly, according to ``promtool test rules``."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "rules.yml").write_text(rules, encoding="utf-8")
        tests = [story.test() for story in STORIES]
        case = {"rule_files": ["rules.yml"], "evaluation_interval": f"{EVALUATED}m", "tests": tests}
        Path(folder, "test.yml").write_text(yaml.safe_dump(case), encoding="utf-8")
        done = environment.run([tool, "test", "rules", "test.yml"], cwd=Path(folder), timeout=TIMEOUT)
    if done.returncode == 0:
        return []
    failed = {_minutes(found) for found in re.findall(r"time: ([\dhm]+)", done.stdout + done.stderr)}
    return [story for story in STORIES if story.end in failed] or list(STORIES)


def _minutes(duration: str) -> int:
    """Return the minutes of a duration as Prometheus writes it: ``6h15m`` is 375."""
    return sum(int(number) * {"h": 60, "m": 1}[unit] for number, unit in re.findall(r"(\d+)([hm])", duration))
