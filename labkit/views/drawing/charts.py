"""Charts drawn with matplotlib: with alt text and a colour-blind-safe palette, legible in the light and dark theme."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pandas as pd

from labkit.errors import KitError
from labkit.views.drawing.colours import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from labstack.arguments import checked

if TYPE_CHECKING:
    from labkit.client.traffic import Traffic

VERSIONS = {"v1": (BLUE, "o"), "v2": (ORANGE, "^")}
FAILURES = ((VERMILION, "X"), (PURPLE, "s"), (GREEN, "D"), (ORANGE, "v"))


def show(figure: Any, alt: str) -> None:
    """Show a figure below the cell, with alt text."""
    import matplotlib.pyplot as plt
    from IPython.display import display

    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def require_rows(table: pd.DataFrame, source: str, *columns: str) -> None:
    """Reject a table that a chart can't draw.

    Raises
    ------
    KitError
        It has no rows, or not these columns, or one with other values than numbers.
    """
    absent = [column for column in columns if column not in table]
    numbers = [pd.api.types.is_numeric_dtype(table[column]) for column in columns or table if column in table]
    if absent or not len(table) or not all(numbers):
        what = f"without the column {absent[0]}" if absent else "of text" if len(table) else "without rows"
        raise KitError(f"A table {what} can't be drawn.", next_step=f"pass the result of {source}")


@checked
def waits_chart(waits: pd.DataFrame, title: str = "Outbox rows and their records") -> None:
    """Draw the number of committed rows and of records in Kafka over time.

    Parameters
    ----------
    waits : DataFrame
        From `look.connect.waits(orders)`.
    title : str
        The title above the chart.
    """
    require_rows(waits, "look.connect.waits(orders)", "row", "record")
    zero = waits["row"].min()
    rows, records = (sorted(waits[column].dropna() - zero) for column in ("row", "record"))
    end = max([*rows, *records]) + 0.3
    figure, axes = canvas()
    for times, colour, style, label in (
        (rows, ORANGE, "-", "rows committed"),
        (records, BLUE, "--", "records in Kafka"),
    ):
        counts = list(range(len(times) + 1))
        axes.step([0, *times, end], [*counts, counts[-1]], where="post", color=colour, ls=style, lw=2.5, label=label)
    axes.set(title=title, xlabel="seconds since the first row", ylabel="how many", xlim=(0, end), ylim=(0, None))
    axes.legend(loc="upper left", labelcolor=GREY, framealpha=0)
    longest = max((waits["record"] - waits["row"]).dropna(), default=0.0)
    show(
        figure,
        f"Two rising steps over {end:.0f} seconds: {len(rows)} outbox rows committed, {len(records)} records in Kafka. "
        f"The longest wait of a row was {longest:.1f} seconds.",
    )


def traffic_chart(traffic: Traffic, title: str) -> None:
    """Draw a dot for each request, by sender, status and duration of the answer.

    Parameters
    ----------
    traffic : Traffic
        From `shop.traffic(...)`.
    title : str
        The title above the chart.
    """
    figure, axes = canvas()
    failures = itertools.cycle(FAILURES)
    descriptions = []
    for who, status, count in traffic.table().itertuples(index=False):
        dots = [(n, a.seconds) for n, a in enumerate(traffic.answers, 1) if (a.version, a.status) == (who, status)]
        colour, mark = VERSIONS[who] if who in VERSIONS and status < 400 else next(failures)
        label = f"{status} from {who}: {count}"
        axes.plot(*zip(*dots, strict=True), mark, color=colour, ms=6 if mark == "X" else 5, mew=0, label=label)
        waits = sorted(seconds for _, seconds in dots)
        half, last = _duration(waits[len(waits) // 2]), _duration(waits[-1])
        descriptions.append(f"{count} answers {status} from {who}, half of them within {half}, the last in {last}")
    axes.set(title=title, xlabel="request", ylabel="seconds", ylim=(-0.04 * traffic.slowest, 1.08 * traffic.slowest))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), labelcolor=GREY, framealpha=0)
    show(figure, f"A dot for each of {len(traffic.answers)} requests: {'; '.join(descriptions)}.")


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} seconds" if seconds >= 0.1 else f"{1000 * seconds:.0f} milliseconds"


def canvas() -> tuple[Any, Any]:
    """Return a figure with one chart, with a transparent background, in a grey that is visible in both themes."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    in_both_themes(figure, axes)
    return figure, axes


def in_both_themes(figure: Any, axes: Any) -> None:
    """Give a chart a transparent background, and a grey that is visible in the light and the dark theme."""
    figure.patch.set_alpha(0)
    axes.set_facecolor("none")
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(GREY)
    axes.tick_params(colors=GREY)
    axes.grid(color=GREY, alpha=0.3)
    for spine in axes.spines.values():
        spine.set_color(GREY)
