"""Properties that all steps of the build track share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.build import STEPS, task
from labkit.build.judging import Outcome, Report, Requirement, collect
from labkit.build.program import ProgramFailed
from labkit.build.step import BuildStep
from labkit.errors import KitError
from labkit.exercises.board import Board
from labkit.exercises.progress import ProgressFile
from labkit.exercises.standing import Standing
from labstack import Lab

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", STEPS)
def test_untouched_stub_is_not_attempted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge of an untouched stub names the first requirement, without a lab, and records nothing."""
    monkeypatch.chdir(tmp_path)
    step = BuildStep(Lab("absent"), task(name))
    assert not step.judge().attempted
    step.file.parent.mkdir()
    step.file.write_text(f"# a comment\n{task(name).stub}", encoding="utf-8")
    report = step.judge()
    first = task(name).requirements[0]
    assert repr(report) == f"○ {name}: Not attempted yet. The first requirement is: 1 {first.name}."
    assert not report.passed


@pytest.mark.parametrize("name", STEPS)
def test_learners_code_imports_only_public_libraries(name: str) -> None:
    """Stub and reference import nothing of the lab."""
    for code in (task(name).stub, task(name).reference):
        assert "labkit" not in code
        assert "labservices" not in code
        assert "labstack" not in code


@pytest.mark.parametrize("name", STEPS)
def test_requirements_are_numbered_and_hinted(name: str) -> None:
    """The requirements are numbered from 1, and there are three hints."""
    found = task(name)
    assert [one.number for one in found.requirements] == list(range(1, len(found.requirements) + 1))
    assert len(found.hints) == 3


FIRST, SECOND = Requirement(1, "first", "It is so."), Requirement(2, "second", "It is so, too.")


def test_a_requirement_is_broken_if_one_of_its_trials_breaks_it() -> None:
    """The report keeps the first broken outcome of a requirement."""
    outcomes = [
        FIRST.kept("fine"),
        FIRST.broken("3 rows", "A refund is lost."),
        FIRST.kept("fine"),
        SECOND.kept("fine"),
    ]
    report = collect("outbox", (FIRST, SECOND), outcomes)
    assert not report.passed
    assert "1 of 2 requirements kept" in repr(report)
    assert "3 rows" in repr(report)
    assert "A refund is lost." in report._repr_html_()


def test_a_program_that_fails_breaks_the_next_requirement() -> None:
    """A program that does not run breaks the requirement whose trial was next; later ones are not judged."""

    def trials() -> Iterator[Outcome]:
        yield FIRST.kept("fine")
        raise ProgramFailed("outbox.py ended with status 1.", log="NameError: sesion")

    report = collect("outbox", (FIRST, SECOND, Requirement(3, "third", "")), trials())
    assert "NameError: sesion" in repr(report)
    assert "○ 3 third (not judged)" in repr(report)
    assert [outcome.kept for outcome in report.outcomes] == [True, False]


def test_the_board_shows_the_newest_judging(tmp_path: Path) -> None:
    """The board lists the requirements of a judged step, and counts those that were kept."""
    progress = ProgressFile(tmp_path)
    progress.record_judging("build-1", "outbox", {"one transaction": True, "200 at once": True})
    progress.record_judging("build-1", "outbox", {"one transaction": True, "200 at once": False})
    board = Board(Standing.of(progress.entries()))
    assert "Build 1 · Outbox: a return and its event: 1 of 2" in repr(board)
    assert "✓ outbox: one transaction" in repr(board)
    assert "… outbox: 200 at once" in repr(board)
    assert "200 at once" in board._repr_html_()
    assert progress.solved("build-1")


def test_unknown_names_have_a_next_step() -> None:
    """A step that does not exist raises an error with the names of the steps."""
    with pytest.raises(KitError, match="outbox"):
        task("inbox")


def test_a_report_without_outcomes_has_not_passed() -> None:
    """A report of a judging that did not take place has not passed."""
    assert not Report("outbox", (FIRST,), attempted=False).passed
