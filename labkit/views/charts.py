"""Charts: drawn by matplotlib, with alt text, in colours for the colour-blind, legible in the light and dark theme."""

from __future__ import annotations

from typing import Any

import pandas as pd

from labkit.views.colours import BLUE, GREY, ORANGE


def show(figure: Any, alt: str) -> None:
    """Show a figure below the cell, with a text for whoever can't see it."""
    import matplotlib.pyplot as plt
    from IPython.display import display

    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def waits_chart(waits: pd.DataFrame, title: str = "Outbox rows and their records") -> None:
    """Draw how many rows were committed and how many records had come, over time.

    Parameters
    ----------
    waits : DataFrame
        From `look.waits(orders)`.
    title : str
        Above the chart.
    """
    import matplotlib.pyplot as plt

    zero = waits["row"].min()
    rows, records = (sorted(waits[column].dropna() - zero) for column in ("row", "record"))
    end = max([*rows, *records]) + 0.3
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    figure.patch.set_alpha(0)
    axes.set_facecolor("none")
    for times, colour, style, label in (
        (rows, ORANGE, "-", "rows committed"),
        (records, BLUE, "--", "records in Kafka"),
    ):
        counts = list(range(len(times) + 1))
        axes.step([0, *times, end], [*counts, counts[-1]], where="post", color=colour, ls=style, lw=2.5, label=label)
    axes.set(title=title, xlabel="seconds since the first row", ylabel="how many", xlim=(0, end), ylim=(0, None))
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(GREY)
    axes.tick_params(colors=GREY)
    axes.grid(color=GREY, alpha=0.3)
    for spine in axes.spines.values():
        spine.set_color(GREY)
    axes.legend(loc="upper left", labelcolor=GREY, framealpha=0)
    longest = max((waits["record"] - waits["row"]).dropna(), default=0.0)
    show(
        figure,
        f"Two rising steps over {end:.0f} seconds: {len(rows)} outbox rows committed, {len(records)} records in Kafka. "
        f"The longest wait of a row was {longest:.1f} seconds.",
    )
