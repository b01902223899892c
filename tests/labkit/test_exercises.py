"""Each exercise in three ways, untouched, solved and typically wrong, on a real lab."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from labkit import Session
from labkit.exercises import ON_CLUSTER, course
from labkit.exercises.base import Exercise, Wrong
from labkit.exercises.progress import ProgressFile
from labkit.exercises.tasks import Tasks
from tests.suite.chance import short_sample

ALL = [exercise for number, exercises in course().items() for exercise in exercises if number not in ON_CLUSTER]
"""The exercises of a local lab; those on a cluster are tested by tests/cluster/test_notebook.py."""
MISTAKES = [(exercise, mistake) for exercise in ALL for mistake in exercise.mistakes]
SAMPLED_EXERCISES, SAMPLED_MISTAKES = 3, 3
"""The number of exercises and of mistakes that the short run tries, chosen by the seed."""
NEEDS = {"the-search": "jaeger"}
"""The program without which an exercise can't be checked."""


def sampled(values: list[Any], keep: int) -> list[Any]:
    """Return the parameters of `short_sample`, and mark those whose exercise needs a program."""
    marked = []
    for parameter in short_sample(values, keep):
        program = NEEDS.get(parameter.values[0].name)
        marks = [*parameter.marks, *([pytest.mark.needs(program)] if program else [])]
        marked.append(pytest.param(*parameter.values, marks=marks))
    return marked


class Attempt:
    """A learner's attempt at an exercise: runs its setup, executes code, and checks the answer."""

    def __init__(self, exercise: Exercise, session: Session, book: Path) -> None:
        self.exercise = exercise
        self.session = session
        self.tasks = Tasks(session.lab, session.shop, session.look, "00")
        self.tasks._progress = ProgressFile(book)
        self.given = self.tasks.setup(exercise.name)
        facts = self.tasks._progress.given(exercise.name) or {}
        assert set(exercise.hidden) <= {*facts, "v2_was_running"}, "an unknown fact is hidden"
        assert not set(exercise.hidden) & set(vars(self.given)), "the learner sees a hidden fact"

    def submit(self, code: str, *, all_facts: bool = False) -> str:
        """Execute code with the facts that the learner receives, or with all of them, and check the answer."""
        lab, shop, look, _ = self.session
        given = SimpleNamespace(**(self.tasks._progress.given(self.exercise.name) or {})) if all_facts else self.given
        names: dict[str, Any] = {"lab": lab, "shop": shop, "look": look, "given": given, "answer": ...}
        exec(textwrap.dedent(code), names)
        return self.check(names["answer"])

    def check(self, answer: Any = ...) -> str:
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


@pytest.mark.parametrize("attempt", sampled(ALL, SAMPLED_EXERCISES), ids=name_of, indirect=True)
def test_an_exercise_is_untouched_at_first_and_right_when_solved(attempt: Attempt) -> None:
    """An exercise is reported as untouched at first, and as right after its solution."""
    assert attempt.check() == "untouched"
    assert attempt.submit(attempt.exercise.answer) == "right", attempt.message
    assert attempt.tasks._progress.solved(attempt.exercise.name)


@pytest.mark.parametrize(("attempt", "mistake"), sampled(MISTAKES, SAMPLED_MISTAKES), ids=name_of, indirect=["attempt"])
def test_a_typical_mistake_is_rejected_with_its_message(attempt: Attempt, mistake: Wrong) -> None:
    """A typical wrong answer is rejected with the message for that mistake."""
    assert attempt.submit(mistake.code, all_facts=True) == "wrong", attempt.message
    assert mistake.message in attempt.message
    assert not attempt.tasks._progress.solved(attempt.exercise.name)


@pytest.mark.parametrize("attempt", [one for one in ALL if one.name == "answer-by-key"], ids=name_of, indirect=True)
def test_the_status_of_the_idempotency_draft_is_accepted(attempt: Attempt) -> None:
    """422 for another request with a used key is as right as 409."""
    assert attempt.submit(attempt.exercise.answer.replace("409", "422")) == "right", attempt.message


@pytest.mark.parametrize("attempt", [one for one in ALL if one.name == "sold-out"], ids=name_of, indirect=True)
def test_a_list_and_a_column_are_equal_answers(attempt: Attempt) -> None:
    """A list or a column of one value equals that value; an incomparable type is named and does not crash."""
    products = pd.DataFrame(attempt.session.shop.products())
    gone = products.sku[products.available == 0]
    assert attempt.check(gone) == attempt.check(list(gone)) == "right"
    assert attempt.check(products) == "wrong"
    assert "DataFrame" in attempt.message


@pytest.mark.long
@pytest.mark.parametrize("is_solved", [True, False], ids=["solved", "skipped"])
def test_cleanup_of_crashes_leaves_nothing_to_the_referee(session: Session, tmp_path: Path, is_solved: bool) -> None:
    """After the exercises about crashes, solved or skipped, the referee finds nothing, as notebook 06 promises."""
    session.lab.reset()
    for exercise in course()["06"]:
        attempt = Attempt(exercise, session, tmp_path)
        if is_solved:
            assert attempt.submit(exercise.answer) == "right", attempt.message
        attempt.tasks.cleanup(exercise.name)
    verdicts = session.lab.check(wait_for_rest=60)
    assert [(verdict.name, verdict.notes) for verdict in verdicts if not verdict.holds] == []
