"""The charts of the notebooks: rows and records that wait, workers that share them, and the time that orders take."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from labkit.client.practice import Workers
from labkit.errors import KitError
from labkit.views.drawing.charts import canvas, require_rows, show, waits_chart
from labkit.views.drawing.colours import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from labstack.arguments import Positive, checked

__all__ = ["lag_chart", "stays_chart", "utilisation_chart", "waits_chart", "workers_chart"]

LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"))
DOTS = ((BLUE, "o"), (GREEN, "s"), (ORANGE, "^"), (VERMILION, "X"))


@checked
def lag_chart(lag: pd.DataFrame, marks: Mapping[str, float], title: str) -> None:
    """Draw the number of waiting records in each partition.

    Parameters
    ----------
    lag : DataFrame
        A column for each partition; the index is in seconds.
    marks : mapping
        Moments to mark, in the index's seconds, by label.
    title : str
        The title above the chart.
    """
    require_rows(lag, "a measurement of the lag: a column of numbers for each partition")
    figure, axes = canvas()
    for number, column in enumerate(lag.columns):
        colour, stroke = LINES[number % len(LINES)]
        axes.plot(lag.index, lag[column], stroke, color=colour, lw=2, label=f"partition {column}")
    for what, when in marks.items():
        axes.axvline(when, color=VERMILION, ls="--", lw=1)
        axes.annotate(f" {what}", (when, 0.98), xycoords=("data", "axes fraction"), va="top", color=VERMILION)
    axes.set(title=title, xlabel="seconds", ylabel="records", ylim=(-0.4, 1.25 * max(1.0, lag.max().max())))
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), labelcolor=GREY, framealpha=0)
    most = "; ".join(f"at most {lag[column].max():.0f} in partition {column}" for column in lag.columns)
    show(figure, f"Records that wait, over {lag.index[-1]:.0f} seconds: {most}; {lag.iloc[-1].sum():.0f} at the end.")


@checked
def workers_chart(teams: Mapping[str, Workers], title: str, marked: str = "") -> None:
    """Draw which worker handled which record when: a row for each worker, a bar for each record.

    Parameters
    ----------
    teams : mapping
        Finished workers, by the label of their rows. With several teams the label, such as ``of 4``, follows a number.
    title : str
        The title above the chart.
    marked : str
        The key whose records get another colour.
    """
    figure, axes = canvas()
    rows: list[str] = []
    descriptions = []
    for name, team in teams.items():
        order = sorted(range(len(team.assigned)), key=lambda number: team.assigned[number] or [99])
        for place, number in enumerate(order):
            for one in team.handled:
                if one.worker == number:
                    colour = ORANGE if one.record.key == marked else BLUE
                    axes.barh(len(rows), one.ended - one.began, left=one.began, height=0.7, color=colour, ec="white")
            rows.append(f"{place + 1} {name}" if len(teams) > 1 else f"worker {place + 1}")
        descriptions.append(f"{len(team.assigned)} handle {len(team.handled)} records in {team.seconds:.1f} seconds")
    figure.set_size_inches(8, max(2.0, 0.9 + 0.24 * len(rows)))
    axes.set(title=title, xlabel="seconds", xlim=(0, None), yticks=range(len(rows)), yticklabels=rows)
    axes.tick_params(axis="y", labelsize=8)
    axes.invert_yaxis()
    also = f" The records of {marked} are drawn in another colour." if marked else ""
    show(figure, f"A row for each worker, a bar for each record it handled; {'; '.join(descriptions)}.{also}")


def _require_loads(stays: Mapping[float, pd.DataFrame], *columns: str) -> None:
    if not stays:
        raise KitError("There is no load to draw.", next_step="pass a table for each load, by its orders per second")
    for table in stays.values():
        require_rows(table, f"a measurement with the columns {' and '.join(columns)}", *columns)


@checked
def stays_chart(stays: Mapping[float, pd.DataFrame], title: str) -> None:
    """Draw how long each order took: a dot for each, by its arrival, in a colour for each arrival rate.

    Parameters
    ----------
    stays : mapping
        By orders per second: a table with ``came`` and ``seconds``.
    title : str
        The title above the chart.
    """
    _require_loads(stays, "came", "seconds")
    figure, axes = canvas()
    before, descriptions = 0.0, []
    for number, (rate, table) in enumerate(stays.items()):
        colour, mark = DOTS[number % len(DOTS)]
        came = table.came - table.came.min()
        axes.plot(before + came, table.seconds, mark, color=colour, ms=5, mew=0, label=f"{rate:g} a second")
        descriptions.append(f"at {rate:g} a second half of them within {table.seconds.median():.1f} seconds")
        before += came.max() + 1.5
    axes.set(title=title, xlabel="seconds (each load by itself, one after the other)", ylabel="seconds to COMPLETED")
    axes.set_ylim(0, None)
    axes.legend(loc="upper left", labelcolor=GREY, framealpha=0)
    show(figure, f"A dot for each order, how long it took to be completed: {', '.join(descriptions)}.")


@checked
def utilisation_chart(stays: Mapping[float, pd.DataFrame], service_time: Positive, title: str) -> None:
    """Draw how long orders took by the utilisation of the slowest service, and what queueing theory predicts.

    The line is the mean time in a queue with random arrivals and a constant service time (M/D/1), the
    Pollaczek–Khinchine formula: the wait is ``s · ρ / (2 · (1 − ρ))``. It starts at the shortest measured time, which
    includes all that is not waiting.

    Parameters
    ----------
    stays : mapping
        By orders per second: a table with ``seconds``.
    service_time : float
        Seconds that the slowest service needs for an order.
    title : str
        The title above the chart.
    """
    _require_loads(stays, "seconds")
    figure, axes = canvas()
    shortest = min(table.seconds.min() for table in stays.values())
    busy = [number / 100 for number in range(97)]
    theory = [shortest + service_time * rho / (2 * (1 - rho)) for rho in busy]
    axes.plot(busy, theory, color=GREY, lw=2, label="theory: the mean in the long run")
    descriptions = []
    for number, (rate, table) in enumerate(stays.items()):
        colour, mark = DOTS[number % len(DOTS)]
        rho, mean = rate * service_time, table.seconds.mean()
        axes.plot([rho] * len(table), table.seconds, mark, color=colour, ms=4, mew=0, alpha=0.4)
        axes.plot([rho], [mean], mark, color=colour, ms=10, mec="white", label=f"{rate:g} a second, and their mean")
        descriptions.append(f"{mean:.1f} seconds at ρ = {rho:.2g}")
    axes.axvline(1, color=VERMILION, ls="--", lw=1)
    axes.set(title=title, xlabel="utilisation ρ", ylabel="seconds to COMPLETED", ylim=(0, None))
    axes.legend(loc="upper left", labelcolor=GREY, framealpha=0)
    means = ", ".join(descriptions)
    show(figure, f"A dot for each order, by utilisation, and the line of the theory. The means: {means}.")
