"""The exercises as a notebook uses them: `tasks.setup(name)`, `check`, `hint`, `solution`, `cleanup`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from labkit.client.shop import Shop
from labkit.errors import KitError
from labkit.exercises import course
from labkit.exercises.base import Bench, Exercise, Verdict, untouched, wrong
from labkit.exercises.board import Board
from labkit.exercises.certificate import Certificate
from labkit.exercises.guess import Guess, ask, compare
from labkit.exercises.hand_in import write_report
from labkit.exercises.predictions import Prediction, predictions
from labkit.exercises.progress import ProgressFile
from labkit.exercises.standing import Standing
from labkit.inspect.look import Look
from labkit.restarting import restart_stopped
from labstack import Lab
from labstack.arguments import checked_class
from labstack.errors import InvalidArgument, one_of
from labstack.lab import access_of
from labstack.lifecycle.report import busy


@checked_class
class Tasks:
    """The exercises of the course, each by its name.

    Parameters
    ----------
    lab, shop, look
        The objects that exercises work with.
    notebook : str
        The number of the current notebook.
    """

    def __init__(self, lab: Lab, shop: Shop, look: Look, notebook: str) -> None:
        self._bench = Bench(lab, shop, look)
        self._notebook = notebook
        self._progress = ProgressFile(access_of(lab).paths.state)
        self._progress.report()

    def setup(self, name: str) -> SimpleNamespace:
        """Prepare an exercise, and return its facts; start components that were left stopped."""
        exercise = self._exercise(name)
        components = self._bench.lab.status(memory=False).components.values()
        any_stopped = any(component.state != "running" for component in components)
        if any_stopped and (restarted := restart_stopped(self._bench.lab)):
            print(f"Started again, because the exercise needs it: {', '.join(restarted)}.")
            for other in self.in_progress():
                if other != name:
                    print(f'{other} is in progress. If it needs a stopped component, run tasks.setup("{other}") again.')
        with busy(f"preparing {name}"):
            message, facts = exercise.setup(self._bench)
        self._progress.record_setup(name, facts, self._data_generation())
        print(message)
        return _visible(exercise, facts)

    def given(self, name: str) -> SimpleNamespace:
        """Return the facts of the setup again, for example after a kernel restart."""
        exercise = self._exercise(name)
        facts = self._progress.given(exercise.name)
        if facts is None:
            raise KitError(f"{name} is not set up.", next_step=f'run tasks.setup("{name}")')
        return _visible(exercise, facts)

    def check(self, name: str, answer: Any = ...) -> Verdict:
        """Check an exercise, and return whether it is solved, with a hint if it is not.

        Parameters
        ----------
        name : str
            The exercise's name.
        answer : object, optional
            The answer, if the exercise asks for one; ``...`` means none yet.
        """
        exercise = self._exercise(name)
        with busy(f"checking {name}"):
            verdict = self._check(exercise, answer)
        submission = exercise.submission(self._bench, answer) if verdict.outcome != "untouched" else ""
        self._progress.record_outcome(name, verdict.outcome, submission, verdict.message)
        return verdict

    def _check(self, exercise: Exercise, answer: Any) -> Verdict:
        if exercise.asks_value and answer is ...:
            return untouched("Replace the three dots with your answer and run the cell again.")
        facts = self._progress.given(exercise.name)
        if exercise.needs_setup and facts is None:
            return untouched(f'First run tasks.setup("{exercise.name}").')
        bench = Bench(self._bench.lab, self._bench.shop, self._bench.look, SimpleNamespace(**(facts or {})))
        answer = _plain(answer)
        outdated = self._progress.data_generation(exercise.name) not in (
            None,
            self._data_generation(),
        )
        again = f'The lab was reset after the setup: run tasks.setup("{exercise.name}") again.'
        try:
            verdict = exercise.check(bench, answer)
        except (LookupError, KitError):
            # The objects of the setup no longer exist.
            if not outdated:
                raise
            return untouched(again)
        except (TypeError, ValueError, InvalidArgument):
            # A check compares the answer with the correct one, which fails for some types.
            if answer is None or isinstance(answer, str | int | float):
                raise
            return wrong(
                f"Your answer has the type {type(answer).__name__}, but the question expects another type: see the "
                "end of the question."
            )
        return (
            replace(verdict, message=f"{verdict.message} {again}")
            if outdated and verdict.outcome != "right"
            else verdict
        )

    def hint(self, name: str) -> None:
        """Print the next hint of three: where to look, what to use, and how the answer begins.

        After the third hint, each call prints the third one again.
        """
        exercise = self._exercise(name)
        level = self._progress.record_hint(name, len(exercise.hints))
        for line in f"Hint {level} of {len(exercise.hints)}: {exercise.hints[level - 1]}".splitlines():
            print(line if line.startswith("    ") else textwrap.fill(line, 100))

    def solution(self, name: str) -> None:
        """Print a solution and its explanation."""
        exercise = self._exercise(name)
        self._progress.record_solution_seen(name)
        print(textwrap.dedent(exercise.answer).strip())
        print()
        print(textwrap.fill(exercise.why, 100))

    def cleanup(self, name: str) -> None:
        """Undo the changes of an exercise; without a setup there is nothing to undo."""
        exercise = self._exercise(name)
        facts = self._progress.given(name)
        bench = Bench(self._bench.lab, self._bench.shop, self._bench.look, SimpleNamespace(**(facts or {})))
        with busy(f"cleaning up {name}"):
            message = exercise.cleanup(bench) if facts is not None else "Nothing to clean up."
        print(message)
        self._progress.record_setup(name, None)

    def predict(self, name: str, guess: Any = ...) -> Guess:
        """Ask for a prediction, or commit to one; it counts if it is made before the answer is shown.

        Parameters
        ----------
        name : str
            The prediction's name.
        guess : object, optional
            One of the choices, or a few words if the question is open. Without it, the notebook shows buttons.

        Raises
        ------
        KitError
            There is no prediction of that name, or the guess is not one of the choices.
        """
        return ask(self._prediction(name), self._progress, guess)

    def compare(self, name: str, happened: Any = None) -> None:
        """Show a prediction beside what happened. Without a prediction, show only what happened.

        Parameters
        ----------
        name : str
            The prediction's name.
        happened : object, optional
            What the cells before have measured; default: what the course expects.
        """
        compare(self._prediction(name), self._progress, happened)

    def progress(self) -> Board:
        """Return the board of all exercises and predictions of the course; its `table` is a pandas table."""
        return Board(self._standing())

    def report(self, path: str | Path = "saga-lab-progress.html", who: str = "") -> Path:
        """Write the progress and your answers to a file to hand in, and return its path.

        Parameters
        ----------
        path : str or Path
            The target: a page (``.html``), an object (``.json``) or a table (``.csv``).
        who : str
            Your name, to be shown in the page.

        Raises
        ------
        KitError
            The suffix is another one, or the target's folder does not exist.
        """
        return write_report(self._standing(), path, who)

    def certificate(
        self, who: str = "", path: str | Path = "saga-lab-certificate.html", notebooks: Sequence[str] = ()
    ) -> Certificate:
        """Write a certificate to print if all exercises are solved, and return it; otherwise return what is missing.

        Parameters
        ----------
        who : str
            Your name.
        path : str or Path
            The page to write (``.html``).
        notebooks : sequence of str
            The notebooks that it is about, such as ``["00", "01"]``; default: all that need no cluster.

        Raises
        ------
        KitError
            A notebook does not exist, or the path does not name an HTML file in an existing folder.
        """
        return Certificate(self._standing(), who, path, notebooks)

    def _standing(self) -> Standing:
        return Standing.of(self._progress.entries())

    def score(self) -> tuple[int, int]:
        """Return the number of solved exercises in this notebook, and their total number."""
        names = [exercise.name for exercise in course().get(self._notebook, ())]
        return sum(self._progress.solved(name) for name in names), len(names)

    def predicted(self) -> tuple[int, int]:
        """Return the number of predictions made in this notebook, and their total number."""
        here = self._standing().predictions.by_notebook().get(self._notebook)
        return (here.done, here.total) if here else (0, 0)

    def in_progress(self) -> list[str]:
        """Return this notebook's exercises that are set up, and neither solved nor cleaned up."""
        now = self._data_generation()
        names = [exercise.name for exercise in course().get(self._notebook, ())]
        set_up = [
            name
            for name in names
            if self._progress.given(name) is not None and self._progress.data_generation(name) == now
        ]
        return [name for name in set_up if not self._progress.solved(name)]

    def _data_generation(self) -> int:
        return access_of(self._bench.lab).state().data_generation

    def forget(self) -> None:
        """Delete all progress, to restart the course."""
        self._progress.forget()

    def _prediction(self, name: str) -> Prediction:
        known = {one.name: one for notebook in course() for one in predictions(notebook)}
        if name not in known:
            here = [one.name for one in predictions(self._notebook)]
            raise KitError(f"There is no prediction {name!r}.", next_step=one_of(name, here or known))
        return known[name]

    def _exercise(self, name: str) -> Exercise:
        known = {exercise.name: exercise for exercises in course().values() for exercise in exercises}
        if name not in known:
            here = [exercise.name for exercise in course().get(self._notebook, ())]
            raise KitError(f"There is no exercise {name!r}.", next_step=one_of(name, here or known))
        return known[name]


def _visible(exercise: Exercise, facts: dict[str, Any]) -> SimpleNamespace:
    """Return the facts of a setup that the learner receives."""
    return SimpleNamespace(**{name: value for name, value in facts.items() if name not in exercise.hidden})


def _plain(answer: Any) -> Any:
    """Return the value of a column or table that holds only one value, because the learner means that value."""
    return (
        answer.to_numpy().item()
        if isinstance(answer, pd.Series | pd.Index | pd.DataFrame) and answer.size == 1
        else answer
    )
