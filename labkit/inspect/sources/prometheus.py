"""A small client of Prometheus' HTTP API that returns tables.

Source: Prometheus' manual, "HTTP API".
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pandas as pd

from labkit.errors import KitError, QueryFailed

TIMEOUT = 5.0
"""The timeout for an answer, in seconds."""

NAME = "__name__"


class NoPrometheus(KitError):
    """The lab has no Prometheus, or it does not answer."""


class Prometheus:
    """Queries one Prometheus.

    Parameters
    ----------
    url : str
        Its base URL; empty if the lab has no Prometheus.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str, at: float | None = None) -> pd.DataFrame:
        """Return the value of an expression at one moment: a row for each series, its labels and its ``value``.

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
        parameters = {"query": expression} | ({"time": f"{at:.3f}"} if at is not None else {})
        data = self._get("query", parameters)
        if data["resultType"] in ("scalar", "string"):
            return pd.DataFrame([{"value": float(data["result"][1])}])
        if data["resultType"] == "matrix":
            raise QueryFailed(
                f"{expression} is a range of samples for each series.",
                next_step="put a function around it, such as rate(...) or increase(...)",
            )
        rows = [{**series["metric"], "value": float(series["value"][1])} for series in data["result"]]
        columns = list(dict.fromkeys(name for row in rows for name in row if name != "value"))
        table = pd.DataFrame(rows, columns=[*columns, "value"])
        return table.sort_values(columns).reset_index(drop=True) if columns else table

    def number(self, expression: str, at: float | None = None) -> float:
        """Return the value of an expression that has exactly one.

        Raises
        ------
        QueryFailed
            The expression has no value, or several.
        """
        table = self.query(expression, at)
        if len(table) != 1:
            raise QueryFailed(
                f"{expression} has {len(table) or 'no'} values, and one is wanted.",
                next_step="sum(...) makes one of several; `look.metrics.query` shows them all",
            )
        return float(table["value"][0])

    def query_range(self, expression: str, start: float, end: float, step: float) -> pd.DataFrame:
        """Return the values of an expression over a period: a row for each moment, a column for each series.

        Parameters
        ----------
        expression : str
            PromQL.
        start, end : float
            Seconds since 1970.
        step : float
            Seconds between two moments.

        Returns
        -------
        DataFrame
            The index holds moments in UTC. A column's name consists of the labels in which its series differs from the
            others.
        """
        lines = self.lines(expression, start, end, step)
        columns = zip(names([labels for labels, _ in lines]), (line for _, line in lines), strict=True)
        return pd.DataFrame(dict(columns)).sort_index()

    def lines(self, expression: str, start: float, end: float, step: float) -> list[tuple[dict[str, str], pd.Series]]:
        """Return the labels and the values of each series over a period, from the same query as `query_range`."""
        parameters = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        found = []
        for one in self._get("query_range", parameters)["result"]:
            moments = pd.to_datetime([moment for moment, _ in one["values"]], unit="s", utc=True)
            found.append((one["metric"], pd.Series([float(value) for _, value in one["values"]], index=moments)))
        return found

    def exemplars(self, expression: str, seconds: float = 300) -> pd.DataFrame:
        """Return a histogram's latest exemplars: labels, ``value``, ``trace_id`` and ``time``, the newest last."""
        now = time.time()
        parameters = {"query": expression, "start": f"{now - seconds:.3f}", "end": f"{now:.3f}"}
        rows = [
            {**series["seriesLabels"], "value": float(one["value"]), **one["labels"], "time": one["timestamp"]}
            for series in self._get("query_exemplars", parameters)
            for one in series["exemplars"]
        ]
        table = pd.DataFrame(rows)
        return table.sort_values("time").reset_index(drop=True) if rows else table

    def targets(self) -> pd.DataFrame:
        """Return the targets that it scrapes: ``job``, ``service``, ``version``, ``state`` and the last error."""
        found = self._get("targets", {"state": "active"})["activeTargets"]
        rows = [
            {
                "job": one["labels"]["job"],
                "service": one["labels"].get("service", ""),
                "version": one["labels"].get("version", ""),
                "state": one["health"],
                "error": one["lastError"],
            }
            for one in found
        ]
        columns = ["job", "service", "version", "state", "error"]
        return pd.DataFrame(rows, columns=columns).sort_values(columns[:3]).reset_index(drop=True)

    def alerts(self) -> pd.DataFrame:
        """Return the alerts that are pending or firing: ``alert``, ``state``, ``severity`` and ``summary``."""
        rows = [
            {
                "alert": one["labels"]["alertname"],
                "state": one["state"],
                "severity": one["labels"].get("severity", ""),
                "summary": one["annotations"].get("summary", ""),
            }
            for one in self._get("alerts", {})["alerts"]
        ]
        columns = ["alert", "state", "severity", "summary"]
        return pd.DataFrame(rows, columns=columns).sort_values(columns).reset_index(drop=True)

    def rules(self) -> pd.DataFrame:
        """Return the alerting rules: ``alert``, ``state``, ``expression``, and the ``for`` duration in seconds."""
        rows = [
            {"alert": one["name"], "state": one["state"], "expression": one["query"], "for": one["duration"]}
            for group in self._get("rules", {"type": "alert"})["groups"]
            for one in group["rules"]
        ]
        return pd.DataFrame(rows, columns=["alert", "state", "expression", "for"])

    def _get(self, what: str, parameters: dict[str, str]) -> Any:
        if not self.url:
            raise NoPrometheus(
                "There is no Prometheus in this lab.",
                next_step="`lab install prometheus` gets it (seconds on Debian and Ubuntu); `lab down` and `lab up` "
                "take it in",
            )
        try:
            answer = httpx.post(f"{self.url}/api/v1/{what}", data=parameters, timeout=TIMEOUT, trust_env=False)
            if answer.status_code == 405:  # endpoints without an expression accept only GET
                answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=TIMEOUT, trust_env=False)
            document = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise NoPrometheus(
                f"Prometheus doesn't answer ({type(error).__name__}).",
                next_step="`lab` shows how it is, `lab.start('prometheus')` starts it; orders go on without it",
            ) from None
        if document["status"] != "success":
            raise QueryFailed(
                f"Prometheus says: {document.get('error', answer.status_code)}",
                next_step="mend the expression; its place is given as line:column",
            )
        return document["data"]


def names(series: Sequence[dict[str, str]]) -> list[str]:
    """Return a name for each series: the labels in which it differs from the others, otherwise its metric name."""
    keys = list(dict.fromkeys(key for labels in series for key in labels if key != NAME))
    differing = [key for key in keys if len({labels.get(key) for labels in series}) > 1]
    several = len({labels.get(NAME) for labels in series}) > 1
    made = []
    for labels in series:
        parts = [labels[NAME]] if several and NAME in labels else []
        parts += [labels[key] for key in differing if labels.get(key)]
        made.append(" ".join(parts) or labels.get(NAME, "") or "value")
    return made


def is_number(value: float) -> bool:
    """Return whether a sample has a value that can be drawn: a share of nothing is not a number."""
    return math.isfinite(value)
