"""The base of all exercises: setup, check, hint, solution and cleanup, addressed by the exercise's name.

One definition holds everything, including the typical wrong answers, so that a test can run each exercise in three
ways: untouched, solved, and typically wrong.
"""

from __future__ import annotations

import html
import inspect
import pprint
import textwrap
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pandas as pd

from labkit.client.shop import Shop
from labkit.inspect.look import Look
from labkit.views.drawing.colours import BLUE, GREEN, VERMILION
from labstack import Lab

Outcome = Literal["untouched", "right", "wrong"]
Kind = Literal["recall", "diagnosis", "operation", "query", "config", "code"]
"""What an exercise asks for.

``recall``: a fact that reasoning alone gives. ``diagnosis``: a fact that only the running system shows.
``operation``: an action on the running system. ``query``: SQL or PromQL. ``config``: YAML or JSON. ``code``: Python.
"""
ARTEFACTS: tuple[Kind, ...] = ("query", "config", "code")
"""The kinds whose answer would work outside the lab."""

READABLE, READABLE_ROWS = 8000, 40
"""The characters of an answer, and the rows of a table, that are kept to be read by an instructor."""

SIGNS: dict[Outcome, tuple[str, str, str]] = {
    "untouched": ("○", "Not attempted yet.", BLUE),
    "right": ("✓", "Right.", GREEN),
    "wrong": ("✗", "Not yet.", VERMILION),
}


@dataclass(frozen=True)
class Verdict:
    """The result of a check.

    Attributes
    ----------
    outcome : str
        ``untouched``, ``right`` or ``wrong``.
    message : str
        An explanation, or a hint for the next step.
    """

    outcome: Outcome
    message: str

    def __repr__(self) -> str:
        sign, word, _ = SIGNS[self.outcome]
        return textwrap.fill(f"{sign} {word} {self.message}", 100, subsequent_indent="  ")

    def _repr_html_(self) -> str:
        sign, word, colour = SIGNS[self.outcome]
        return (
            f'<div style="border-left:0.4em solid {colour};padding:0.2em 0.8em">'
            f"<b>{sign} {word}</b> {html.escape(self.message)}</div>"
        )


def untouched(message: str) -> Verdict:
    """Return the verdict for an exercise without an attempt."""
    return Verdict("untouched", message)


def right(message: str) -> Verdict:
    """Return the verdict for a correct answer; the message repeats the reason."""
    return Verdict("right", message)


def wrong(message: str) -> Verdict:
    """Return the verdict for a wrong answer; the message gives a hint for the next step."""
    return Verdict("wrong", message)


@dataclass(frozen=True)
class Wrong:
    """A typical wrong attempt.

    Attributes
    ----------
    code : str
        The code that a learner types.
    message : str
        A part of the message that the check must return.
    """

    code: str
    message: str


def readable(answer: Any) -> str:
    """Return an answer as a person would read it: text as it is, a function as its source, a table as a table."""
    if isinstance(answer, str):
        text = answer
    elif isinstance(answer, pd.DataFrame | pd.Series):
        text = answer.head(READABLE_ROWS).to_string()
    elif isinstance(answer, tuple) and answer and all(callable(one) for one in answer):
        text = "\n\n".join(readable(one) for one in answer)
    elif callable(answer):
        try:
            text = textwrap.dedent(inspect.getsource(answer))
        except (OSError, TypeError):
            text = repr(answer)
    else:
        text = pprint.pformat(answer, width=100)
    return text if len(text) <= READABLE else f"{text[:READABLE]}\n…"


@dataclass
class Bench:
    """The objects that an exercise works with."""

    lab: Lab
    shop: Shop
    look: Look
    given: SimpleNamespace = field(default_factory=SimpleNamespace)


class Exercise:
    """One exercise; a subclass defines its content.

    Attributes
    ----------
    name : str
        The exercise's unique name.
    title : str
        The task, in one line.
    kind : str
        What it asks for: see `Kind`.
    level : int
        The difficulty, from 1 to 3.
    minutes : int
        The time that a learner needs who has read the notebook.
    hints : tuple of str
        Where to look, what to use, and how the answer begins. A line that begins with four spaces is code.
    answer : str
        The solution, as Python code that a learner could have typed.
    why : str
        The explanation of the solution.
    mistakes : tuple of Wrong
        Typical wrong attempts.
    asks_value : bool
        Whether `check` needs a value; otherwise it inspects only the lab.
    needs_setup : bool
        Whether `setup` prepares something that `check` needs.
    hidden : tuple of str
        The facts of `setup` that only the check needs, or that would give the answer away; the learner does not receive
        them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    kind: ClassVar[Kind]
    level: ClassVar[Literal[1, 2, 3]]
    minutes: ClassVar[int]
    hints: ClassVar[tuple[str, str, str]]
    answer: ClassVar[str]
    why: ClassVar[str]
    mistakes: ClassVar[tuple[Wrong, ...]]
    asks_value: ClassVar[bool] = True
    needs_setup: ClassVar[bool] = True
    hidden: ClassVar[tuple[str, ...]] = ()

    @property
    def effort(self) -> str:
        """The difficulty and the minutes, such as ``●●○ 5 min``."""
        return f"{'●' * self.level}{'○' * (3 - self.level)} {self.minutes} min"

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        """Prepare the lab; return a message for the learner, and the facts (as JSON) that the check needs."""
        return "Nothing to prepare.", {}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        """Check the lab, and the answer if the exercise asks for one."""
        raise NotImplementedError

    def submission(self, bench: Bench, answer: Any) -> str:
        """Return what the learner hands in, readable: the answer, or the text of a file."""
        return "" if answer is ... else readable(answer)

    def cleanup(self, bench: Bench) -> str:
        """Undo the exercise's changes; return a message that describes the result."""
        return "Nothing to clean up."
