"""A chart of PromQL expressions over the last seconds, with marks at the moments of faults."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from labkit.errors import QueryFailed
from labkit.sources.prometheus import PrometheusClient
from labkit.views.drawing.charts import canvas, show
from labkit.views.drawing.colours import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION

LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"), (SKY, "-"), (VERMILION, "--"))
"""A colour and a stroke for each line, so that lines can be distinguished without colours."""

POINTS = 240
LEGEND = 12
"""The maximum number of series in the legend; more cannot be distinguished."""


def chart(
    prometheus: PrometheusClient,
    expressions: str | Mapping[str, str],
    *,
    seconds: float = 60,
    marks: Mapping[str, float] | Sequence[tuple[str, float]] = (),
    title: str = "",
    unit: str = "",
) -> pd.DataFrame:
    """Draw expressions over the last seconds, and return the drawn values.

    Parameters
    ----------
    prometheus : PrometheusClient
        The client to query.
    expressions : str or mapping
        PromQL; several expressions by the names of their lines.
    seconds : float
        The length of the period.
    marks : mapping or sequence
        Moments to mark, in seconds since 1970, by label.
    title, unit : str
        The title above the chart, and the label of its vertical axis.

    Returns
    -------
    DataFrame
        A column for each line; the index is the time in seconds relative to now.

    Raises
    ------
    QueryFailed
        Prometheus rejects an expression, or has no data for any of them.
    """
    expressions_by_label = {"": expressions} if isinstance(expressions, str) else dict(expressions)
    if not expressions_by_label:
        raise QueryFailed("There is no expression to draw.", next_step="pass PromQL, such as 'up'")
    series, now = read(prometheus, expressions_by_label, seconds)
    draw(
        series, [(what, when - now) for what, when in dict(marks).items()], title or _title(expressions_by_label), unit
    )
    return series


def read(
    prometheus: PrometheusClient, expressions_by_label: Mapping[str, str], seconds: float
) -> tuple[pd.DataFrame, float]:
    """Query expressions over the last seconds; return a column for each line, and the time of the query."""
    now = time.time()
    step = max(1.0, seconds / POINTS)
    tables = []
    for name, expression in expressions_by_label.items():
        table = prometheus.query_range(expression, now - seconds, now, step)
        if name:
            several = len(table.columns) > 1
            table.columns = pd.Index([f"{name} {column}" if several else name for column in table.columns])
        tables.append(table)
    series = (
        pd.concat([table for table in tables if len(table)], axis=1, sort=True)
        if any(map(len, tables))
        else pd.DataFrame()
    )
    if series.empty:
        raise QueryFailed(
            f"Prometheus has nothing for {' or '.join(expressions_by_label.values())} in the last {seconds:g} s.",
            next_step="look.metrics.query(...) of a part of it tells where the series get lost; a rate "
            "takes two samples",
        )
    if not np.isfinite(series.to_numpy(dtype=float)).any():
        raise QueryFailed(
            f"{' and '.join(expressions_by_label.values())} has no finite number in the last {seconds:g} s.",
            next_step="a share of nothing is NaN: place some orders, or draw numerator and denominator apart",
        )
    series = series.where(np.isfinite(series.astype(float)))
    series.index = pd.Index([round(moment.timestamp() - now, 1) for moment in series.index], name="seconds")
    return series, now


def _title(expressions_by_label: Mapping[str, str]) -> str:
    only = next(iter(expressions_by_label.values()))
    return (
        only
        if len(expressions_by_label) == 1 and len(only) < 90
        else ", ".join(name for name in expressions_by_label if name)
    )


def draw(series: pd.DataFrame, marks: Sequence[tuple[str, float]], title: str, unit: str) -> None:
    """Draw a table: a line for each column, over an index of seconds."""
    figure, axes = canvas()
    show(figure, plot(axes, series, marks, title, unit))


def plot(axes: Any, series: pd.DataFrame, marks: Sequence[tuple[str, float]], title: str, unit: str) -> str:
    """Draw a table into an existing chart, and return a description of it in words."""
    for number, column in enumerate(series.columns):
        colour, stroke = LINES[number % len(LINES)]
        line = series[column].dropna()
        label = str(column) if number < LEGEND else None
        axes.plot(line.index, line.to_numpy(), stroke, color=colour, lw=2, label=label)
    for what, when in marks:
        axes.axvline(when, color=VERMILION, ls="--", lw=1)
        beside = {"xytext": (-3, -3), "textcoords": "offset points", "ha": "right", "va": "top", "rotation": 90}
        axes.annotate(what, (when, 1), xycoords=("data", "axes fraction"), color=VERMILION, fontsize=8, **beside)
    axes.set(title=title, xlabel="seconds before now", ylabel=unit)
    top = series.max().max()
    axes.set_ylim(min(0, series.min().min()) - 0.02 * abs(top), 1.1 * top or 1)
    if len(series.columns) > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), labelcolor=GREY, framealpha=0, fontsize=8)
    lines = [
        f"{column} from {line.min():.3g} to {line.max():.3g}, at last {line.iloc[-1]:.3g}"
        for column in series.columns[:LEGEND]
        if len(line := series[column].dropna())
    ]
    moments = "".join(f" Marked: {what}." for what, _ in marks)
    span = abs(series.index[0] - series.index[-1])
    return f"{title}, {unit or 'values'} over {span:.0f} seconds: {'; '.join(lines)}.{moments}"
