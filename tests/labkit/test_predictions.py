"""Predictions: a guess is kept before the answer is shown, and compared with it afterwards."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labkit.errors import KitError
from labkit.exercises import course, guess, tasks
from labkit.exercises.board import Board
from labkit.exercises.guess import Comparison, Guess, as_text
from labkit.exercises.predictions import Prediction, predictions
from labkit.exercises.progress import ProgressFile
from labkit.exercises.standing import Standing
from labkit.exercises.tasks import Tasks
from labstack import Lab
from labstack.config.paths import TREE

STEPS = sorted((TREE / "notebooks" / "build").glob("*.ipynb"))
NOTEBOOKS = [*course(), *(f"build-{path.stem.partition('-')[0]}" for path in STEPS)]
ALL = [one for notebook in NOTEBOOKS for one in predictions(notebook)]
COLOUR = Prediction("00", "colour", "Which colour?", "green", ("red", "green", "grey blue"), "Tea is green.")
WISH = Prediction("00", "wish", "What do you expect?", "Tea arrives.")


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tasks:
    """Return the tasks of a course with two predictions."""
    monkeypatch.setattr(tasks, "course", lambda: {"00": []})
    monkeypatch.setattr(tasks, "predictions", lambda notebook: (COLOUR, WISH))
    lab = SimpleNamespace(_access=SimpleNamespace(paths=SimpleNamespace(state=tmp_path)))
    return Tasks(cast(Lab, lab), cast(Any, None), cast(Any, None), "00")


def shown(book: Tasks, capsys: pytest.CaptureFixture[str], name: str = "colour", **more: Any) -> str:
    """Compare a prediction, and return what is shown."""
    capsys.readouterr()
    book.compare(name, **more)
    return " ".join(capsys.readouterr().out.split())


def state(book: Tasks, prediction: Prediction = COLOUR) -> str:
    return prediction.state(book._progress.entries().get(prediction.key, {}))


@pytest.mark.parametrize("prediction", ALL, ids=lambda prediction: prediction.name)
def test_a_prediction_is_complete(prediction: Prediction) -> None:
    """A question ends as one; the answer is one of several different choices, or else a sentence."""
    assert prediction.question.endswith("?")
    if prediction.choices:
        assert len(set(prediction.choices)) == len(prediction.choices) >= 2
        assert prediction.answer in prediction.choices
        assert prediction.why.endswith(".")
    else:
        assert prediction.answer.endswith(".")


def test_names_are_unique_and_most_questions_are_closed() -> None:
    """Each name exists once; at least four of five predictions are compared automatically."""
    keys = [prediction.key for prediction in ALL]
    assert len(set(keys)) == len(keys)
    names = [prediction.name for notebook in course() for prediction in predictions(notebook)]
    assert len(set(names)) == len(names)
    assert sum(bool(prediction.choices) for prediction in ALL) >= 0.8 * len(ALL)


def test_a_guess_before_the_answer_is_compared(book: Tasks, capsys: pytest.CaptureFixture[str]) -> None:
    """A right guess, a wrong one and none are told apart, and the reason stands beside each."""
    assert state(book) == "open"
    assert shown(book, capsys) == "○ Not predicted. It was: green. Tea is green."
    book.forget()
    book.predict("colour", "red")
    assert state(book) == "predicted"
    book.predict("colour", "GREEN")
    assert shown(book, capsys) == "✓ As you predicted: green. Tea is green."
    assert state(book) == "as predicted"
    book.forget()
    book.predict("colour", "grey")
    assert shown(book, capsys) == "≠ You predicted grey blue. It was: green. Tea is green."
    assert state(book) == "otherwise"


def test_a_guess_after_the_answer_does_not_count(book: Tasks, capsys: pytest.CaptureFixture[str]) -> None:
    """A first guess after the answer is late, and a former guess can't be changed then."""
    book.compare("colour")
    book.predict("colour", "green")
    assert state(book) == "late"
    assert "Too late to count" in capsys.readouterr().out
    assert "after the answer had been shown" in shown(book, capsys)
    book.forget()
    book.predict("colour", "red")
    book.compare("colour")
    book.predict("colour", "green")
    assert state(book) == "otherwise"


def test_the_comparison_uses_what_was_measured(book: Tasks, capsys: pytest.CaptureFixture[str]) -> None:
    """If something else happened than the course expects, the guess is compared with that, and both are named."""
    book.predict("colour", "red")
    assert shown(book, capsys, happened="red") == "✓ As you predicted: red. The notebook expects green."
    assert state(book) == "as predicted"
    assert [as_text(value) for value in (True, 5, [1, "a"])] == ["yes", "5", "1, a"]


def test_an_open_prediction_is_shown_again(book: Tasks, capsys: pytest.CaptureFixture[str]) -> None:
    """A free text is kept as it is, and shown beside the explanation."""
    assert shown(book, capsys, "wish") == "○ Not predicted. Tea arrives."
    book.forget()
    book.predict("wish", "Tea,\n and cake")
    assert shown(book, capsys, "wish") == "✎ You wrote: Tea, and cake It was: Tea arrives."
    assert state(book, WISH) == "predicted"


@pytest.mark.parametrize(("text", "message"), [("blue", "none of the choices"), ("gr", "none of"), (" ", "is empty")])
def test_guess_outside_the_choices_is_rejected(book: Tasks, text: str, message: str) -> None:
    """A guess that matches no choice, fits two of them or is empty is rejected, and nothing is kept."""
    with pytest.raises(KitError, match=message) as caught:
        book.predict("colour", text)
    assert caught.value.next_step
    assert state(book) == "open"
    with pytest.raises(KitError, match="no prediction 'color'"):
        book.predict("color")


def test_the_text_does_not_depend_on_the_learner(book: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's first output is the same with and without a guess, because nbval compares it."""
    firsts: list[dict[str, str]] = []
    monkeypatch.setattr(guess, "show_in_two_steps", lambda first, then: firsts.append(first))
    before = repr(book.predict("colour"))
    book.compare("colour")
    book.forget()
    assert repr(book.predict("colour", "red")) == before
    book.compare("colour")
    assert firsts[0] == firsts[1] == Comparison(COLOUR, {"shown": True}).data
    assert "Tea" not in before


def test_a_click_keeps_a_guess(tmp_path: Path) -> None:
    """A click on a choice keeps it and marks its button, and the next cell's comparison finds it."""
    progress = ProgressFile(tmp_path)
    asked = Guess(COLOUR, progress)
    assert asked._repr_mimebundle_()["text/plain"] == repr(asked)
    question, row, status = asked._widget.children
    assert COLOUR.question in question.value
    assert repr(asked).startswith(COLOUR.question)
    assert "Not predicted yet" in status.value
    row.children[1].click()
    assert "You predict: green" in status.value
    assert [button.button_style for button in row.children] == ["", "info", ""]
    assert COLOUR.state(progress.entries()[COLOUR.key]) == "predicted"


def test_a_text_is_kept_with_a_click(tmp_path: Path) -> None:
    """An open question has a text box; an empty text is not kept."""
    progress = ProgressFile(tmp_path)
    asked = Guess(WISH, progress)
    asked._repr_mimebundle_()
    question, box, row = asked._widget.children
    assert WISH.question in question.value
    assert repr(asked).startswith(WISH.question)
    button, status = row.children
    button.click()
    assert "empty" in status.value
    box.value = "Tea <b>"
    button.click()
    assert "Tea &lt;b&gt;" in status.value
    assert progress.entries()[WISH.key]["guess"] == "Tea <b>"


def test_predictions_count_in_the_progress(book: Tasks) -> None:
    """The board and the notebook's score count guesses that were made in time, whatever happened then."""
    first, second = ALL[:2]
    entries = {
        first.key: {"guess": first.choices[-1], "shown": True},
        second.key: {"guess": second.answer, "late": True, "shown": True},
    }
    standing = Standing.of(entries)
    assert (standing.predictions.done, standing.predictions.total) == (1, len(ALL))
    assert f"1 of {len(ALL)} predictions made, 0 came true" in repr(Board(standing))
    assert f"≠ {first.name}  – {second.name}" in repr(Board(standing))
    assert book.predicted() == (0, len(predictions("00")))


def test_a_terminal_prints_the_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    """Outside a notebook, the final form is printed."""
    guess.show_in_two_steps({"text/plain": "first"}, {"text/plain": "then"})
    assert capsys.readouterr().out == "then\n"
