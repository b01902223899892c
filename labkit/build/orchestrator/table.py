"""The table that a learner fills after step 5, and its comparison with what the lab measures."""

from __future__ import annotations

import textwrap
from pathlib import Path
from types import EllipsisType
from typing import Any

import pandas as pd

from labkit.build.orchestrator.comparison import FILES, ROWS, measure
from labkit.build.step import FOLDER
from labstack import Lab
from labstack.arguments import checked

Pair = tuple[Any, Any]
"""An answer for choreography, and one for orchestration."""

REFERENCE, STUB = (FILES / f"{name}.py" for name in ("reference", "stub"))

IN_WORDS = {
    "what a participant must know": (
        "the events of other services: payment waits for an event of the warehouse, and undoes at one of the courier",
        "its own commands and replies; only the orchestrator knows the participants and their order",
    ),
    "where the state of a return can be seen": (
        "in no single place: a row in each service, or a service that consumes all events",
        "in one row of the orchestrator, with the command that it waits for",
    ),
    "what happens while the courier is unavailable": (
        "its returns wait, and nothing undoes them, unless a service adds a deadline",
        "the orchestrator times out and undoes, but while it is itself down, no return moves",
    ),
}


@checked
def measure_forms(file: str | Path | None = None, lab: Lab | None = None) -> pd.DataFrame:
    """Measure choreography and orchestration of the same saga in the lab.

    Parameters
    ----------
    file : str or Path, optional
        The orchestrator; default: your file, or the solution as long as your file is the stub.
    lab : Lab, optional
        A lab to use instead of the user's.

    Returns
    -------
    DataFrame
        Messages for each return, the median of ten latencies, and the cost of a further step.
    """
    path = Path(file or FOLDER / "orchestrator.py")
    is_stub = not path.exists() or path.read_text(encoding="utf-8").strip() == STUB.read_text(encoding="utf-8").strip()
    if not file and is_stub:
        print(f"{path.as_posix()} is still the stub, so the solution is measured.")
        path = REFERENCE
    return measure(lab or Lab(), path.resolve())


@checked
def compare_table(mine: dict[str, Any], measured: pd.DataFrame) -> pd.DataFrame:
    """Compare a filled table with the measurements, and print the answers in words beside the lab's.

    Parameters
    ----------
    mine : dict
        By row: your answers for choreography and for orchestration, ``...`` where you have none.
    measured : DataFrame
        What `measure_forms` returned.

    Returns
    -------
    DataFrame
        By row and form: your number, the measured one, and whether they fit.
    """
    for row, words in IN_WORDS.items():
        print(f"\n{row}")
        for form, yours, labs in zip(measured.columns, _pair(mine.get(row, ...)), words, strict=True):
            print(_indented(f"{form}, yours: {_shown(yours)}"))
            print(_indented(f"{form}, the lab's: {labs}"))
    rows = [
        (row, form, _shown(yours), labs, _judged(row, yours, labs))
        for row in ROWS
        for form, yours, labs in zip(measured.columns, _pair(mine.get(row, ...)), measured.loc[row], strict=True)
    ]
    return pd.DataFrame(rows, columns=["", "form", "yours", "the lab's", "fits"]).set_index(["", "form"])


def _pair(answer: Any) -> Pair:
    """Return an answer for each form; a single answer counts for both."""
    return tuple(answer) if isinstance(answer, tuple | list) and len(answer) == 2 else (answer, answer)


def _indented(text: str) -> str:
    return textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    ")


def _shown(answer: Any) -> Any:
    return "✎" if isinstance(answer, EllipsisType) else answer


def _judged(row: str, yours: Any, labs: Any) -> str:
    if isinstance(yours, EllipsisType):
        return "○"
    if "milliseconds" in row:
        return "✓" if isinstance(yours, int | float) and labs / 3 <= yours <= labs * 3 else "✗"
    return "✓" if yours == labs else "✗"


__all__ = ["compare_table", "measure_forms"]
