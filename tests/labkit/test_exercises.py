"""Each exercise in three ways, untouched, solved and typically wrong, on a real lab."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from labkit import Session
from labkit.exercises import course
from labkit.exercises.base import Exercise, Wrong
from labkit.exercises.progress import ProgressBook
from labkit.exercises.tasks import Tasks
from tests.suite.chance import short_sample

ALL = [exercise for exercises in course().values() for exercise in exercises]
MISTAKES = [(exercise, mistake) for exercise in ALL for mistake in exercise.mistakes]
TRIED, TRIED_MISTAKES = 3, 3
"""The number of exercises and of mistakes that the short run tries, chosen by the seed."""


class Attempt:
    """A learner's attempt at an exercise: runs its setup, executes code, and checks the answer."""

    def __init__(self, exercise: Exercise, session: Session, book: Path) -> None:
        self.exercise = exercise
        self.session = session
        self.tasks = Tasks(session.lab, session.shop, session.look, "00")
        self.tasks._book = ProgressBook(book)
        self.given = self.tasks.setup(exercise.name)

    def types(self, code: str) -> str:
        lab, shop, look, _ = self.session
        names: dict[str, Any] = {"lab": lab, "shop": shop, "look": look, "given": self.given, "answer": ...}
        exec(textwrap.dedent(code), names)
        return self.checked(names["answer"])

    def checked(self, answer: Any = ...) -> str:
        verdict = self.tasks.check(self.exercise.name, answer)
        self.message = verdict.message
        return verdict.outcome


@pytest.fixture
def attempt(
    session: Session, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Attempt]:
    monkeypatch.chdir(tmp_path)  # a learner's files are written beside the notebook
    attempt = Attempt(request.param, session, tmp_path)
    yield attempt
    attempt.tasks.cleanup(attempt.exercise.name)
    assert session.lab.status(memory=False).state == "ready"


def name_of(value: object) -> str:
    return value.name if isinstance(value, Exercise) else "mistake"


@pytest.mark.parametrize("attempt", short_sample(ALL, TRIED), ids=name_of, indirect=True)
def test_untouched_then_solved(attempt: Attempt) -> None:
    """An exercise is reported as untouched at first, and as right after its solution."""
    assert attempt.checked() == "untouched"
    assert attempt.types(attempt.exercise.answer) == "right", attempt.message
    assert attempt.tasks._book.solved(attempt.exercise.name)


@pytest.mark.parametrize(
    ("attempt", "mistake"), short_sample(MISTAKES, TRIED_MISTAKES), ids=name_of, indirect=["attempt"]
)
def test_typically_wrong(attempt: Attempt, mistake: Wrong) -> None:
    """A typical wrong answer is rejected with the message for that mistake."""
    assert attempt.types(mistake.code) == "wrong", attempt.message
    assert mistake.says in attempt.message
    assert not attempt.tasks._book.solved(attempt.exercise.name)


@pytest.mark.parametrize("attempt", [one for one in ALL if one.name == "sold-out"], ids=name_of, indirect=True)
def test_an_answer_in_another_form(attempt: Attempt) -> None:
    """A list or a column of one value equals that value; an incomparable type is named and does not crash."""
    products = pd.DataFrame(attempt.session.shop.products())
    gone = products.sku[products.available == 0]
    assert attempt.checked(gone) == attempt.checked(list(gone)) == "right"
    assert attempt.checked(products) == "wrong"
    assert "DataFrame" in attempt.message
