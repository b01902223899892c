"""Grafana's dashboards, drawn in the notebook from the same files and queries, for a lab without Grafana.

Source of the format: Grafana's documentation, "Dashboard JSON model" and "Prometheus template variables".
"""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import dataclass
from typing import Any

import pandas as pd

from labkit.errors import KitError
from labkit.sources.prometheus import NAME, PrometheusClient
from labkit.views.drawing.chart import LINES
from labkit.views.drawing.charts import show
from labkit.views.drawing.colours import GREY, SERVICES
from labstack.errors import one_of
from labstack.observability.grafana import FOLDER

INTERVAL = 1.0
"""Seconds between two scrapes of Prometheus."""

UNITS = {
    "s": ("seconds", 1.0),
    "ms": ("milliseconds", 1.0),
    "bytes": ("megabytes", 1e6),
    "reqps": ("requests per second", 1.0),
    "ops": ("per second", 1.0),
    "percentunit": ("share", 1.0),
}
"""The name of each Grafana unit here, and the factor by which its values are divided."""
NO_DATA = "no data"


@dataclass(frozen=True)
class Panel:
    """A panel of a dashboard's file.

    Attributes
    ----------
    title, description, unit, kind : str
        The panel's texts, the unit of its values, and its type: ``timeseries`` or ``stat``.
    queries : list of tuple
        Legend and PromQL of each query.
    place : tuple of int
        x, y, width and height in Grafana's grid of 24 columns.
    """

    title: str
    description: str
    unit: str
    kind: str
    queries: list[tuple[str, str]]
    place: tuple[int, int, int, int]

    @property
    def unit_name(self) -> str:
        return UNITS.get(self.unit, ("", 1.0))[0]

    @property
    def scale(self) -> float:
        return UNITS.get(self.unit, ("", 1.0))[1]


def names() -> list[str]:
    """Return the names of the dashboards."""
    return sorted(path.stem for path in (FOLDER / "dashboards").glob("*.json"))


def panels(name: str) -> tuple[str, list[Panel]]:
    """Return the title and the panels of a dashboard.

    Raises
    ------
    KitError
        There is no such dashboard.
    """
    if name not in names():
        raise KitError(f"Unknown dashboard {name!r}.", next_step=one_of(name, names()))
    document = json.loads((FOLDER / "dashboards" / f"{name}.json").read_text(encoding="utf-8"))
    found = [
        Panel(
            panel["title"],
            panel["description"],
            panel["fieldConfig"]["defaults"].get("unit", "short"),
            panel["type"],
            [(target.get("legendFormat", ""), target["expr"]) for target in panel["targets"]],
            tuple(panel["gridPos"][key] for key in "xywh"),
        )
        for panel in document["panels"]
    ]
    return str(document["title"]), found


def filled(expression: str, step: float, seconds: float) -> str:
    """Replace Grafana's own variables in PromQL with values.

    As in Grafana, a rate's interval is at least four scrape intervals long.
    """
    values = {"__rate_interval": max(4 * INTERVAL, step + INTERVAL), "__interval": step, "__range": seconds}
    return re.sub(r"\$(__\w+)", lambda found: f"{math.ceil(values[found[1]])}s", expression)


def series_of(panel: Panel, prometheus: PrometheusClient, seconds: float, now: float) -> pd.DataFrame:
    """Return a panel's data, in its ``unit_name``: a column for each line, named by its legend.

    The index is in seconds relative to now.
    """
    step = max(INTERVAL, seconds / 240)
    columns: dict[str, pd.Series] = {}
    for legend, expression in panel.queries:
        for labels, line in prometheus.lines(filled(expression, step, seconds), now - seconds, now, step):
            columns[_named(legend, labels)] = line / panel.scale
    table = pd.DataFrame(columns).sort_index()
    table.index = pd.Index([moment.timestamp() - now for moment in table.index], name="seconds")
    return table


def _named(legend: str, labels: dict[str, str]) -> str:
    written = re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), legend)
    return written.strip() or labels.get(NAME, "value")


def text(name: str, prometheus: PrometheusClient, minutes: float = 5) -> pd.DataFrame:
    """Return a dashboard's current values as a table: panel, series, newest value, unit."""
    _, shown = panels(name)
    now = time.time()
    rows = []
    for panel in shown:
        table = series_of(panel, prometheus, 60 * minutes, now)
        for column in table:
            line = table[column].dropna()
            value = line.iloc[-1] if len(line) else None
            rows.append((panel.title, column, value, panel.unit_name))
    return pd.DataFrame(rows, columns=["panel", "series", "value", "unit"])


def draw(name: str, prometheus: PrometheusClient, minutes: float = 5) -> None:
    """Draw a dashboard's last minutes below the cell."""
    import matplotlib.pyplot as plt

    title, shown = panels(name)
    now, seconds = time.time(), 60 * minutes
    height = max(y + h for _, y, _, h in (panel.place for panel in shown))
    figure = plt.figure(figsize=(13, 0.33 * height), layout="constrained")
    figure.patch.set_alpha(0)
    figure.suptitle(title, color=GREY)
    grid = figure.add_gridspec(height, 24)
    descriptions = []
    for panel in shown:
        x, y, width, tall = panel.place
        table = series_of(panel, prometheus, seconds, now)
        axes = figure.add_subplot(grid[y : y + tall, x : x + width])
        axes.set_facecolor("none")
        axes.set_title(panel.title, color=GREY, fontsize=9)
        newest = {str(column): line.iloc[-1] for column in table if len(line := table[column].dropna())}
        if panel.kind == "stat":
            _number(axes, next(iter(newest.values()), None), panel.unit)
        else:
            _lines(axes, table, panel, seconds)
        descriptions.append(f"{panel.title}: " + (", ".join(f"{k} {v:.3g}" for k, v in newest.items()) or NO_DATA))
    show(figure, f"Dashboard {title}, the last {minutes:g} minutes; newest values. {'; '.join(descriptions)}.")


def _number(axes: Any, value: float | None, unit: str) -> None:
    axes.axis("off")
    written = NO_DATA if value is None else f"{value:.3g}{' s' if unit == 's' else ''}"
    axes.text(0.5, 0.5, written, ha="center", va="center", fontsize=20, color=GREY, transform=axes.transAxes)


def _lines(axes: Any, table: pd.DataFrame, panel: Panel, seconds: float) -> None:
    if table.empty:
        axes.text(0.5, 0.5, NO_DATA, ha="center", va="center", color=GREY, transform=axes.transAxes)
    for number, column in enumerate(table):
        colour, stroke = LINES[number % len(LINES)]
        owner = next((shade for service, shade in SERVICES.items() if service in str(column)), colour)
        line = table[column].dropna()
        axes.plot(line.index, line.to_numpy(), stroke, color=owner, lw=1.6, label=str(column))
    axes.set_xlim(-seconds, 0)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(panel.unit_name, color=GREY, fontsize=8)
    axes.tick_params(colors=GREY, labelsize=7)
    axes.grid(color=GREY, alpha=0.3)
    for spine in axes.spines.values():
        spine.set_color(GREY)
    if 0 < len(table.columns) <= 8:
        axes.legend(loc="upper left", labelcolor=GREY, framealpha=0, fontsize=7)
