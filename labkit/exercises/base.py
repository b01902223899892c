"""An exercise: setup → check → hint → solution → cleanup, found by its name.

One definition holds everything, the typical wrong answers included, so that a test can run each exercise three ways:
untouched, solved, and typically wrong.
"""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

from labkit.look import Look
from labkit.shop import Shop
from labkit.views.colours import BLUE, GREEN, VERMILION
from labstack import Lab

Outcome = Literal["untouched", "right", "wrong"]

SIGNS: dict[Outcome, tuple[str, str, str]] = {
    "untouched": ("○", "Not attempted yet.", BLUE),
    "right": ("✓", "Right.", GREEN),
    "wrong": ("✗", "Not yet.", VERMILION),
}


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes
    ----------
    outcome : str
        ``untouched``, ``right`` or ``wrong``.
    message : str
        What to think about next.
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
    """Nothing was tried yet."""
    return Verdict("untouched", message)


def right(message: str) -> Verdict:
    """It is right; the message says why, once more."""
    return Verdict("right", message)


def wrong(message: str) -> Verdict:
    """It is wrong; the message points at the thought that leads on."""
    return Verdict("wrong", message)


@dataclass(frozen=True)
class Wrong:
    """A typical wrong attempt.

    Attributes
    ----------
    code : str
        What somebody types.
    says : str
        Part of the message that they should get.
    """

    code: str
    says: str


@dataclass
class Bench:
    """What an exercise works with."""

    lab: Lab
    shop: Shop
    look: Look
    given: SimpleNamespace = field(default_factory=SimpleNamespace)


class Exercise:
    """One exercise; a subclass says what is asked.

    Attributes
    ----------
    name : str
        Its name, by which everything finds it.
    title : str
        One line.
    tip : str
        The hint.
    answer : str
        The solution, as Python that a learner could have typed.
    why : str
        What the solution teaches.
    mistakes : tuple of Wrong
        Typical wrong attempts.
    asks_value : bool
        Whether `check` wants a value; else it looks at the lab alone.
    needs_setup : bool
        Whether `setup` prepares something that `check` needs.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    tip: ClassVar[str]
    answer: ClassVar[str]
    why: ClassVar[str]
    mistakes: ClassVar[tuple[Wrong, ...]]
    asks_value: ClassVar[bool] = True
    needs_setup: ClassVar[bool] = True

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        """Prepare the lab; return what to tell, and the facts (as JSON) that the check needs."""
        return "Nothing to prepare.", {}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        """Look at the lab, and at the answer where one is asked for."""
        raise NotImplementedError

    def cleanup(self, bench: Bench) -> str:
        """Put back what the exercise changed; return what was done."""
        return "Nothing to put back."
