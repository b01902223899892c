"""What a learner hands in: a page, an object in JSON or a table, with every answer readable."""

from __future__ import annotations

import html
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from labkit.errors import KitError
from labkit.exercises.standing import Item, Standing, notebook_title
from labstack.config.paths import write_atomically

FORMAT = "saga-lab-hand-in/1"
MARK = '<script type="application/json" id="saga-lab-hand-in">'
"""Introduces the JSON object within the page, so that the page alone is enough for `labkit.exercises.hand_ins`."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66em; margin: 2em auto; padding: 0 1em; }
:root { color-scheme: light dark; }
table { border-collapse: collapse; width: 100%; margin-bottom: 2em; }
th, td { text-align: left; vertical-align: top; padding: 0.3em 0.8em 0.3em 0; border-top: 1px solid #8888; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.85em; }
pre { max-height: 24em; overflow-y: auto; }
meter { width: 12em; }
small { opacity: 0.8; }
"""


def write_report(standing: Standing, path: str | Path, who: str = "") -> Path:
    """Write a learner's standing as a page (``.html``), an object (``.json``) or a table (``.csv``).

    Parameters
    ----------
    standing : Standing
        How far the learner has come.
    path : str or Path
        The target; its suffix determines the format.
    who : str
        The learner's name.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    KitError
        The suffix is another one, or the target's folder does not exist.
    """
    path = checked_target(path, ".html", ".json", ".csv")
    written_at = datetime.now(UTC)
    if path.suffix == ".csv":
        text = pd.DataFrame([asdict(item) for item in standing]).to_csv(index=False)
    elif path.suffix == ".json":
        text = as_json(standing, who, written_at) + "\n"
    else:
        text = _report(standing, who, written_at)
    write_atomically(path, text)
    return path


def checked_target(path: str | Path, *suffixes: str) -> Path:
    """Return the path of a file to write, or raise KitError if its suffix or its folder is not right."""
    path = Path(path)
    if path.suffix not in suffixes:
        raise KitError(
            f"{path.name!r} has {f'the extension {path.suffix}' if path.suffix else 'no extension'}.",
            next_step=f"use the extension {' or '.join(suffixes)}",
        )
    if not path.parent.is_dir():
        raise KitError(f"The folder {path.parent} does not exist.", next_step="create it, or choose another folder")
    return path


def as_json(standing: Standing, who: str, written_at: datetime) -> str:
    """Return the object that `labkit.exercises.hand_ins` reads."""
    items = [asdict(item) for item in standing]
    about = {"format": FORMAT, "who": who, "written_at": written_at.isoformat(timespec="seconds")}
    return json.dumps({**about, "items": items}, indent=1, ensure_ascii=False)


def page(title: str, body: str, style: str = STYLE) -> str:
    """Return a self-contained page."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style></head><body>{body}</body></html>\n"
    )


def _report(standing: Standing, who: str, written_at: datetime) -> str:
    title = f"Saga Lab: {who}" if who else "Saga Lab"
    parts = [
        f"<h1>{html.escape(title)}</h1><p>{html.escape(standing.summary())} Written on "
        f"{written_at:%d %B %Y, %H:%M} UTC.</p>"
    ]
    for number, here in standing.by_notebook().items():
        done, total = here.exercises.done, here.exercises.total
        meter = f'<meter max="{total}" value="{done}">{done} of {total}</meter> {done} of {total}'
        parts.append(f"<h2>{html.escape(notebook_title(number))} {meter}</h2>")
        parts.append(_table(here))
    # The only tag that could end the script early is its own.
    data = as_json(standing, who, written_at).replace("</", "<\\/")
    return page(title, "\n".join([*parts, f"{MARK}{data}</script>"]))


def _table(here: Standing) -> str:
    head = "<tr><th></th><th>task</th><th>answer</th><th>outcome</th><th>effort</th></tr>"
    return f"<table>{head}{''.join(map(_row, here))}</table>"


def _row(item: Item) -> str:
    used = [f"{item.attempts} attempts" if item.attempts != 1 else "1 attempt"] if item.attempts else []
    used += [f"{item.hints} hints" if item.hints != 1 else "1 hint"] if item.hints else []
    used += ["looked at the solution"] if item.saw_solution else []
    answer = f"<pre>{html.escape(item.answer)}</pre>" if item.answer else ""
    what = "predicted: " if item.kind == "prediction" else ""
    return (
        f'<tr><td title="{item.state}">{item.sign}</td>'
        f"<td>{what}{html.escape(item.title)}<br><small>{html.escape(item.name)} {item.effort}</small></td>"
        f"<td>{answer}</td><td>{html.escape(item.outcome)}</td>"
        f"<td>{'<br>'.join(used)}<br><small>{item.at[:16].replace('T', ' ')}</small></td></tr>"
    )
