"""A small client of Prometheus' HTTP API that returns tables.

Source: Prometheus' manual, "HTTP API".
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from labkit.errors import KitError, QueryFailed
from labkit.sources.http_source import HttpSource
from labstack.arguments import Positive, checked_class

NAME = "__name__"
RANGE = "put a function around it, such as rate(...) or increase(...)"
"""The advice for a range of samples."""


class NoPrometheus(KitError):
    """The lab has no Prometheus, or it does not answer."""


@checked_class
class PrometheusClient(HttpSource):
    """Queries one Prometheus.

    Parameters
    ----------
    url : str
        Its base URL; empty if the lab has no Prometheus.
    """

    component = "Prometheus"
    unavailable = NoPrometheus
    installation = (
        "`lab install prometheus` installs it (seconds on Debian and Ubuntu); unset "
        "LAB_OBSERVABILITY if it is off; then `lab down` and `lab up` add it"
    )
    meanwhile = "orders go on without it"

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
        result = data["result"]
        if data["resultType"] == "string":
            return pd.DataFrame([{"value": result[1]}])
        if data["resultType"] == "scalar":
            return pd.DataFrame([{"value": float(result[1])}])
        if data["resultType"] == "matrix":
            raise QueryFailed(
                f"{expression} is a range of samples for each series.",
                next_step=RANGE,
            )
        _require_numbers(expression, result, "value")
        labels = [_columns(series["metric"]) for series in result]
        columns = list(dict.fromkeys(name for one in labels for name in one))
        rows = [{**one, "value": float(series["value"][1])} for one, series in zip(labels, result, strict=True)]
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
        if len(table) == 1 and isinstance(table["value"][0], float):
            return float(table["value"][0])
        seen = "a text" if len(table) == 1 else f"{len(table) or 'no'} values"
        several = "sum(...) makes one number of several; `look.metrics.query` shows them all"
        none = "query a part of it with `look.metrics.query`, to see which part has no series"
        raise QueryFailed(f"{expression} has {seen}, not one number.", next_step=several if len(table) else none)

    def query_range(self, expression: str, start: float, end: float, step: Positive) -> pd.DataFrame:
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
        if not lines:
            return pd.DataFrame()
        return pd.concat([line for _, line in lines], axis=1, sort=True, keys=names([labels for labels, _ in lines]))

    def lines(
        self, expression: str, start: float, end: float, step: Positive
    ) -> list[tuple[dict[str, str], pd.Series]]:
        """Return the labels and the values of each series over a period, from the same query as `query_range`."""
        parameters = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        result, found = self._get("query_range", parameters)["result"], []
        _require_numbers(expression, result, "values")
        for one in result:
            moments = pd.to_datetime([moment for moment, _ in one["values"]], unit="s", utc=True)
            found.append((one["metric"], pd.Series([float(value) for _, value in one["values"]], index=moments)))
        return found

    def exemplars(self, expression: str, seconds: Positive = 300) -> pd.DataFrame:
        """Return a histogram's latest exemplars: labels, ``value``, ``trace_id`` and ``time``, the newest last."""
        now = time.time()
        parameters = {"query": expression, "start": f"{now - seconds:.3f}", "end": f"{now:.3f}"}
        rows = [
            {
                **_columns({**series["seriesLabels"], **one["labels"]}, "time"),
                "value": float(one["value"]),
                "time": one["timestamp"],
            }
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
        answer = self._request("POST", f"/api/v1/{what}", data=parameters)
        if answer.status_code == 405:  # endpoints without an expression accept only GET
            answer = self._request("GET", f"/api/v1/{what}", params=parameters)
        try:
            document: dict[str, Any] = answer.json()
        except ValueError:  # an expression without a metric has no exemplars
            document = {"status": "error", "error": f"no answer to {parameters.get('query', what)!r}"}
        if document["status"] != "success":
            problem = str(document.get("error", answer.status_code))
            advice = "correct the expression at line:column; the simplest expression is a metric, such as up"
            raise QueryFailed(f"Prometheus says: {problem}", next_step=RANGE if "range vector" in problem else advice)
        return document["data"]


def _columns(labels: Mapping[str, str], *taken: str) -> dict[str, str]:
    """Return labels with names that are not those of other columns: a label called ``value`` is shown as ``value_``."""
    return {f"{name}_" if name in ("value", *taken) else name: text for name, text in labels.items()}


def _require_numbers(expression: str, result: Sequence[Mapping[str, Any]], key: str) -> None:
    """Reject series of native histograms, which have no plain number at a moment."""
    if any(key not in series for series in result):
        raise QueryFailed(
            f"{expression} has histograms as values.",
            next_step="put a function around it, such as histogram_quantile(0.9, ...) or histogram_count(...)",
        )


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
    return [
        f"{name} ({made[:place].count(name) + 1})" if name in made[:place] else name for place, name in enumerate(made)
    ]


def is_number(value: float) -> bool:
    """Return whether a sample has a value that can be drawn: a share of nothing is not a number."""
    return math.isfinite(value)
