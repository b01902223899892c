"""The board: every exercise and prediction of the course, and what is next."""

from __future__ import annotations

import html
from pathlib import Path

import pandas as pd

from labkit.exercises.standing import Item, Standing, notebook_path, notebook_title
from labkit.views.drawing.colours import BLUE

COLUMNS = ["notebook", "kind", "name", "title", "effort", "state", "attempts"]
LEGEND = "✓ solved, or it happened as predicted · ≠ it happened otherwise · ✎ predicted · – too late · … tried · ○ open"
STYLE = f"""
.lk-board {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(19em, 1fr)); gap: 0.8em }}
.lk-board section {{ border: 1px solid #8886; border-radius: 6px; padding: 0.5em 0.8em }}
.lk-board section.lk-next {{ border: 2px solid {BLUE} }}
.lk-board h4 {{ margin: 0 0 0.3em; display: flex; justify-content: space-between; gap: 0.6em }}
.lk-board ol {{ list-style: none; margin: 0 !important; padding: 0 !important }}
.lk-board li {{ display: flex; gap: 0.5em; line-height: 1.35; margin: 0.15em 0 }}
.lk-board li > b {{ min-width: 1em }}
.lk-board .lk-small {{ opacity: 0.75; font-size: 0.9em; white-space: nowrap }}
.lk-board .lk-guesses {{ border-top: 1px solid #8886; margin-top: 0.4em; padding-top: 0.3em }}
.lk-board .lk-guesses b {{ cursor: help; padding: 0 0.1em }}
"""


class Board:
    """All exercises and predictions of the course, for a notebook.

    Parameters
    ----------
    standing : Standing
        How far the learner has come.
    """

    def __init__(self, standing: Standing) -> None:
        self.standing = standing

    @property
    def table(self) -> pd.DataFrame:
        """The items as a table."""
        rows = [
            (i.notebook, i.kind, i.name, i.title, i.effort, f"{i.sign} {i.state}", i.attempts) for i in self.standing
        ]
        return pd.DataFrame(rows, columns=COLUMNS)

    def __repr__(self) -> str:
        lines = [self.standing.summary(), f"Next: {self._next_line()}"]
        for number, here in self.standing.by_notebook().items():
            tasks = here.requirements.items or here.exercises.items
            lines += ["", f"{notebook_title(number)}: {sum(item.done for item in tasks)} of {len(tasks)}"]
            lines += [f"  {item.sign} {item.name}: {item.title} {item.effort}".rstrip() for item in tasks]
            if here.predictions.total:
                guesses = "  ".join(f"{item.sign} {item.name}" for item in here.predictions)
                lines.append(f"  predictions: {guesses}")
        return "\n".join([*lines, "", LEGEND])

    def _repr_html_(self) -> str:
        upcoming = self.standing.next_exercise()
        cards = [
            self._card(number, here, is_next=upcoming is not None and upcoming.notebook == number)
            for number, here in self.standing.by_notebook().items()
        ]
        return (
            f"<style>{STYLE}</style><p><b>{html.escape(self.standing.summary())}</b><br>"
            f"Next: {html.escape(self._next_line())}</p>"
            f'<div class="lk-board">{"".join(cards)}</div><p class="lk-small">{LEGEND}</p>'
        )

    def _next_line(self) -> str:
        upcoming = self.standing.next_exercise()
        if upcoming is None:
            return 'nothing, all exercises are solved; tasks.certificate("Your Name") writes your certificate.'
        return f"{notebook_title(upcoming.notebook)}, {upcoming.name}: {upcoming.title} {upcoming.effort}".rstrip()

    def _card(self, number: str, here: Standing, *, is_next: bool) -> str:
        tasks, guesses = here.requirements.items or here.exercises.items, here.predictions
        done, title = sum(item.done for item in tasks), html.escape(notebook_title(number))
        if target := link(number):
            title = f'<a href="{target}">{title}</a>'
        count = f'<span class="lk-small">{"next · " if is_next else ""}{done} of {len(tasks)}</span>'
        rows = "".join(self._row(item) for item in tasks)
        below = ""
        if guesses.total:
            signs = " ".join(
                f'<b title="{html.escape(f"{item.name}: {item.title} ({item.state})")}">{item.sign}</b>'
                for item in guesses
            )
            below = (
                f'<div class="lk-guesses"><span class="lk-small">predictions, {guesses.done} of {guesses.total}: '
                f"</span>{signs}</div>"
            )
        style = ' class="lk-next"' if is_next else ""
        return f"<section{style}><h4><span>{title}</span>{count}</h4><ol>{rows}</ol>{below}</section>"

    def _row(self, item: Item) -> str:
        return (
            f'<li title="{html.escape(f"{item.name}: {item.state}")}"><b>{item.sign}</b>'
            f'<span>{html.escape(item.title)} <span class="lk-small">{item.effort}</span></span></li>'
        )


def link(number: str) -> str:
    """Return the link to a notebook from the notebook of this kernel, whose folder is the working directory."""
    file = notebook_path(number)
    for folder in ("", "../"):
        if file and Path(folder, file).exists():
            return folder + file
    return ""
