"""The report of a learner's progress, to hand in."""

from __future__ import annotations

import html
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from labkit.errors import KitError
from labkit.exercises import course
from labstack.config.paths import write_atomically

COLUMNS = ["notebook", "exercise", "title", "state", "attempts", "solved_at"]
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
:root { color-scheme: light dark; }
table { border-collapse: collapse; width: 100%; margin-bottom: 2em; }
th, td { text-align: left; padding: 0.3em 0.8em; border-top: 1px solid #8888; }
meter { width: 12em; }
"""


def table(entries: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row for each exercise of the course: its state, the number of attempts, and when it was solved.

    Parameters
    ----------
    entries : mapping
        The entries of the `ProgressFile`.
    """
    rows = []
    for notebook, exercises in course().items():
        for exercise in exercises:
            entry = entries.get(exercise.name, {})
            state = "✓ solved" if entry.get("solved_at") else "… tried" if entry.get("attempts") else "○ open"
            attempts, solved_at = entry.get("attempts", 0), entry.get("solved_at") or ""
            rows.append((notebook, exercise.name, exercise.title, state, attempts, solved_at))
    return pd.DataFrame(rows, columns=COLUMNS)


def write_report(entries: Mapping[str, Mapping[str, Any]], path: str | Path, who: str = "") -> Path:
    """Write the report as a page (``.html``) or a table (``.csv``), and return its path.

    Parameters
    ----------
    entries : mapping
        The entries of the `ProgressFile`.
    path : str or Path
        The target; its suffix determines the format.
    who : str
        The learner's name.

    Raises
    ------
    KitError
        The suffix is another one, or the target's folder does not exist.
    """
    path = Path(path)
    if path.suffix not in (".html", ".csv"):
        raise KitError(
            f"A report can't be written as {path.suffix or 'a file without an extension'}.",
            next_step="use the extension .html for a page, or .csv for a table",
        )
    if not path.parent.is_dir():
        raise KitError(f"The folder {path.parent} does not exist.", next_step="create it, or choose another folder")
    found = table(entries)
    write_atomically(path, found.to_csv(index=False) if path.suffix == ".csv" else _page(found, who))
    return path


def _page(found: pd.DataFrame, who: str) -> str:
    solved, every = int((found["state"] == "✓ solved").sum()), len(found)
    title = f"Saga Lab: {html.escape(who)}" if who else "Saga Lab"
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{STYLE}</style></head><body><h1>{title}</h1><p>{solved} of {every} exercises solved; written on "
        f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC.</p>",
    ]
    for notebook, rows in found.groupby("notebook"):
        done = int((rows["state"] == "✓ solved").sum())
        sentence = f"{done} of {len(rows)}"
        parts.append(
            f'<h2>Notebook {notebook} <meter max="{len(rows)}" value="{done}">{sentence}</meter> {sentence}</h2>'
        )
        parts.append(rows.drop(columns="notebook").to_html(index=False, border=0))
    return "\n".join([*parts, "</body></html>\n"])
