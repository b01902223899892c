"""How far a learner has come: each exercise and each prediction of the course, with its state and answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal

from labkit.exercises import ON_CLUSTER, course
from labkit.exercises.predictions import Prediction, predictions
from labstack.config.paths import TREE

SIGNS = {
    "open": "○",
    "tried": "…",
    "solved": "✓",
    "predicted": "✎",
    "as predicted": "✓",
    "otherwise": "≠",
    "late": "–",
}
"""A sign for each state. A prediction is late if it was made after its answer had been shown."""
DONE = ("solved", "predicted", "as predicted", "otherwise")
"""The states that count. A prediction counts even if things went otherwise."""


@dataclass(frozen=True)
class Item:
    """An exercise, a prediction, or a step or judged requirement of the build track, as a learner has left it.

    Attributes
    ----------
    notebook : str
        The number of its notebook.
    kind : str
        ``exercise``, ``prediction``, ``step`` or ``requirement``.
    name, title, effort : str
        Its name, what it asks, and (of an exercise) its level and minutes.
    minutes : int
        The minutes of an exercise.
    state : str
        A key of `SIGNS`.
    attempts, hints : int
        Attempts and hints that the learner used.
    saw_solution : bool
        Whether the learner looked at the solution.
    answer : str
        The learner's answer, readable.
    outcome : str
        What the check said, or what happened instead of the prediction.
    at : str
        The time of the last change, in UTC; empty if there was none.
    """

    notebook: str
    kind: Literal["exercise", "prediction", "step", "requirement"]
    name: str
    title: str
    effort: str = ""
    minutes: int = 0
    state: str = "open"
    attempts: int = 0
    hints: int = 0
    saw_solution: bool = False
    answer: str = ""
    outcome: str = ""
    at: str = ""

    @property
    def done(self) -> bool:
        """Whether the item counts as done."""
        return self.state in DONE

    @property
    def sign(self) -> str:
        """The sign of the state."""
        return SIGNS[self.state]


FIELDS = {field.name for field in fields(Item)}


@dataclass(frozen=True)
class Standing:
    """All items of the course, in the order of the notebooks.

    Attributes
    ----------
    items : tuple of Item
        The exercises, then the predictions of each notebook; then each step of the build track, its predictions, and
        its judged requirements.
    """

    items: tuple[Item, ...]

    @classmethod
    def of(cls, entries: Mapping[str, Mapping[str, Any]]) -> Standing:
        """Return the standing after these entries of the `ProgressFile`."""
        return cls(tuple(_items(entries)))

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    @property
    def exercises(self) -> Standing:
        """The exercises, and the steps of the build track, which count like exercises."""
        return Standing(tuple(item for item in self if item.kind in ("exercise", "step")))

    @property
    def predictions(self) -> Standing:
        """The predictions only."""
        return Standing(tuple(item for item in self if item.kind == "prediction"))

    @property
    def requirements(self) -> Standing:
        """The requirements only."""
        return Standing(tuple(item for item in self if item.kind == "requirement"))

    @property
    def done(self) -> int:
        """The number of items that count as done."""
        return sum(item.done for item in self)

    @property
    def total(self) -> int:
        """The number of items."""
        return len(self.items)

    def by_notebook(self) -> dict[str, Standing]:
        """Return the items of each notebook."""
        numbers = dict.fromkeys(item.notebook for item in self)
        return {number: Standing(tuple(item for item in self if item.notebook == number)) for number in numbers}

    def next_exercise(self) -> Item | None:
        """Return the first open exercise of the notebook that the learner used last, else of a later or earlier one.

        A notebook that needs a cluster is proposed only to a learner who used it last.
        """
        numbers = list(self.by_notebook())
        used = max(self, key=lambda item: item.at, default=None)
        start = numbers.index(used.notebook) if used and used.at else 0
        order = numbers[start:] + numbers[:start]
        here = used.notebook if used and used.at else ""
        still_open = [i for i in self.exercises if not i.done and (i.notebook not in ON_CLUSTER or i.notebook == here)]
        return min(still_open, key=lambda item: order.index(item.notebook), default=None)

    def summary(self) -> str:
        """Return the counts, in a sentence."""
        # Without a cluster, a learner can't do the exercises that need one.
        exercises = Standing(tuple(i for i in self.exercises if i.notebook not in ON_CLUSTER or i.state != "open"))
        guesses = self.predictions
        minutes = sum(item.minutes for item in exercises if not item.done)
        came_true = sum(item.state == "as predicted" for item in guesses)
        parts = [f"{exercises.done} of {exercises.total} exercises solved"]
        if guesses.total:
            parts.append(f"{guesses.done} of {guesses.total} predictions made, {came_true} came true")
        if minutes:
            parts.append(f"about {minutes} minutes of exercises remain")
        return "; ".join(parts) + "."


@cache
def notebook_path(number: str) -> str:
    """Return a notebook's path below ``notebooks/``, such as ``03-compensations.ipynb`` or ``build/1-outbox.ipynb``."""
    found = sorted((TREE / "notebooks").glob(f"{number.replace('-', '/')}-*.ipynb"))
    return found[0].relative_to(TREE / "notebooks").as_posix() if found else ""


@cache
def minutes_to_build(number: str) -> int:
    """Return the minutes to build a step, as its notebook states them."""
    text = (TREE / "notebooks" / notebook_path(number)).read_text(encoding="utf-8")
    stated = re.search(r"(\d+) to build\)", text)
    return int(stated[1]) if stated else 0


@cache
def notebook_title(number: str) -> str:
    """Return the first line of a notebook, such as ``03 · Compensations``."""
    if not (file := notebook_path(number)):
        return number
    content = json.loads((TREE / "notebooks" / file).read_text(encoding="utf-8"))
    return "".join(content["cells"][0]["source"]).partition("\n")[0].removeprefix("# ")


def _items(entries: Mapping[str, Mapping[str, Any]]) -> Iterator[Item]:
    for notebook, exercises in course().items():
        for exercise in exercises:
            entry = entries.get(exercise.name, {})
            state = "solved" if entry.get("solved_at") else "tried" if entry.get("attempts") else "open"
            yield Item(
                notebook=notebook,
                kind="exercise",
                name=exercise.name,
                title=exercise.title,
                effort=exercise.effort,
                minutes=exercise.minutes,
                state=state,
                attempts=entry.get("attempts", 0),
                hints=entry.get("hints", 0),
                saw_solution=bool(entry.get("saw_solution")),
                answer=entry.get("answer", ""),
                outcome=entry.get("outcome", ""),
                at=entry.get("at", ""),
            )
        for prediction in predictions(notebook):
            yield _predicted(prediction, entries.get(prediction.key, {}))
    for file in sorted((TREE / "notebooks" / "build").glob("*.ipynb")):
        number, _, step = file.stem.partition("-")
        yield from _built(f"build-{number}", step, entries)


def _built(notebook: str, step: str, entries: Mapping[str, Mapping[str, Any]]) -> Iterator[Item]:
    """Yield a step of the build track, its predictions, and the requirements of its newest judging."""
    entry = entries.get(notebook, {})
    requirements: dict[str, bool] = entry.get("requirements", {})
    broken = [name for name, kept in requirements.items() if not kept]
    yield Item(
        notebook=notebook,
        kind="step",
        name=step,
        title=f"Build the {step}. The judge kills it, and repeats and reorders what it receives",
        minutes=minutes_to_build(notebook),
        state="solved" if entry.get("solved_at") else "tried" if requirements else "open",
        attempts=entry.get("attempts", 0),
        hints=entry.get("hints", 0),
        answer=entry.get("answer", ""),
        outcome=f"not kept: {', '.join(broken)}" if broken else "all requirements kept" if requirements else "",
        at=entry.get("at", ""),
    )
    for prediction in predictions(notebook):
        yield _predicted(prediction, entries.get(prediction.key, {}))
    for name, kept in requirements.items():
        yield Item(
            notebook=notebook,
            kind="requirement",
            name=step,
            title=name,
            state="solved" if kept else "tried",
            attempts=entry.get("attempts", 0),
            hints=entry.get("hints", 0),
            at=entry.get("at", ""),
        )


def _predicted(prediction: Prediction, entry: Mapping[str, Any]) -> Item:
    return Item(
        notebook=prediction.notebook,
        kind="prediction",
        name=prediction.name,
        title=prediction.question,
        state=prediction.state(entry),
        answer=entry.get("guess", ""),
        outcome=(entry.get("happened") or prediction.answer) if entry.get("shown") else "",
        at=entry.get("at", ""),
    )
