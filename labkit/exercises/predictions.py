"""The predictions of the course: a guess that a learner commits to before the answer is shown."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "predictions"
"""Contains a file for each notebook, with a table for each prediction in the order of the notebook."""


@dataclass(frozen=True)
class Prediction:
    """A question about what will happen.

    Attributes
    ----------
    notebook : str
        The number of its notebook.
    name : str
        Its name, unique among the notebooks of `tasks`, and in each notebook of the build track.
    question : str
        The question, in one line.
    answer : str
        What happens: one of the choices, or a sentence if there are none.
    choices : tuple of str
        The possible guesses; empty if the learner writes the guess freely.
    why : str
        The reason, in a sentence.
    """

    notebook: str
    name: str
    question: str
    answer: str
    choices: tuple[str, ...] = ()
    why: str = ""

    @property
    def key(self) -> str:
        """The key of its entry in the learner's progress."""
        return f"prediction {self.notebook} {self.name}"

    def state(self, entry: Mapping[str, Any]) -> str:
        """Return the state after an entry of the learner's progress: ``open``, ``predicted``, ``late`` ..."""
        if not (guess := entry.get("guess")):
            return "open"
        if entry.get("late"):
            return "late"
        if not entry.get("shown") or not self.choices:
            return "predicted"
        return "as predicted" if guess == (entry.get("happened") or self.answer) else "otherwise"


@cache
def predictions(notebook: str) -> tuple[Prediction, ...]:
    """Return the predictions of a notebook, in the order of the notebook."""
    file = FOLDER / f"{notebook}.toml"
    if not file.exists():
        return ()
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    return tuple(
        Prediction(notebook, name, **{**table, "choices": tuple(table.get("choices", ()))})
        for name, table in tables.items()
    )
