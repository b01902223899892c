"""The exercises as a notebook uses them: `tasks.setup(name)`, `check`, `hint`, `solution`, `cleanup`."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from labkit.client.shop import Shop
from labkit.errors import KitError
from labkit.exercises import course
from labkit.exercises.base import Bench, Exercise, Verdict, untouched, wrong
from labkit.exercises.hand_in import table, write_report
from labkit.exercises.progress import ProgressFile
from labkit.inspect.look import Look
from labkit.restarting import restart_stopped
from labstack import Lab


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
        self._progress = ProgressFile(lab.paths.state)

    def setup(self, name: str) -> SimpleNamespace:
        """Prepare an exercise, and return its facts; start components that were left stopped."""
        exercise = self._exercise(name)
        components = self._bench.lab.status(memory=False).components.values()
        any_stopped = any(component.state != "running" for component in components)
        if any_stopped and (restarted := restart_stopped(self._bench.lab)):
            print(f"Started again, because the exercise needs it: {', '.join(restarted)}.")
        message, facts = exercise.setup(self._bench)
        self._progress.record_setup(name, facts, self._bench.lab.data_generation)
        print(message)
        return SimpleNamespace(**facts)

    def given(self, name: str) -> SimpleNamespace:
        """Return the facts of the setup again, for example after a kernel restart."""
        facts = self._progress.given(name)
        if facts is None:
            raise KitError(f"{name} is not set up.", next_step=f'run tasks.setup("{name}")')
        return SimpleNamespace(**facts)

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
        verdict = self._check(exercise, answer)
        self._progress.record_outcome(name, verdict.outcome)
        return verdict

    def _check(self, exercise: Exercise, answer: Any) -> Verdict:
        if exercise.asks_value and answer is ...:
            return untouched("Replace the three dots with your answer and run the cell again.")
        facts = self._progress.given(exercise.name)
        if exercise.needs_setup and facts is None:
            return untouched(f'First run tasks.setup("{exercise.name}").')
        bench = Bench(self._bench.lab, self._bench.shop, self._bench.look, SimpleNamespace(**(facts or {})))
        answer = _plain(answer)
        outdated = self._progress.data_generation(exercise.name) not in (None, self._bench.lab.data_generation)
        again = f'The lab was reset after the setup: run tasks.setup("{exercise.name}") again.'
        try:
            verdict = exercise.check(bench, answer)
        except (LookupError, KitError):
            # The objects of the setup no longer exist.
            if not outdated:
                raise
            return untouched(again)
        except (TypeError, ValueError):
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
        """Print the hint."""
        print(textwrap.fill(self._exercise(name).tip, 100))

    def solution(self, name: str) -> None:
        """Print a solution and its explanation."""
        exercise = self._exercise(name)
        print(textwrap.dedent(exercise.answer).strip())
        print()
        print(textwrap.fill(exercise.why, 100))

    def cleanup(self, name: str) -> None:
        """Undo the changes of an exercise; without a setup there is nothing to undo."""
        exercise = self._exercise(name)
        facts = self._progress.given(name)
        bench = Bench(self._bench.lab, self._bench.shop, self._bench.look, SimpleNamespace(**(facts or {})))
        print(exercise.cleanup(bench) if facts is not None else "Nothing to clean up.")
        self._progress.record_setup(name, None)

    def progress(self) -> pd.DataFrame:
        """Return a table of all exercises of the course, with their state and number of attempts."""
        return table(self._progress.entries()).drop(columns="solved_at")

    def report(self, path: str | Path = "saga-lab-progress.html", who: str = "") -> Path:
        """Write the progress as a page (``.html``) or a table (``.csv``) to hand in, and return its path.

        Parameters
        ----------
        path : str or Path
            The target; its suffix determines the format.
        who : str
            Your name, to be shown in the page.

        Raises
        ------
        KitError
            The suffix is another one, or the target's folder does not exist.
        """
        return write_report(self._progress.entries(), path, who)

    def score(self) -> tuple[int, int]:
        """Return the number of solved exercises in this notebook, and their total number."""
        names = [exercise.name for exercise in course().get(self._notebook, ())]
        return sum(self._progress.solved(name) for name in names), len(names)

    def in_progress(self) -> list[str]:
        """Return this notebook's exercises that are set up, and neither solved nor cleaned up."""
        now = self._bench.lab.data_generation
        names = [exercise.name for exercise in course().get(self._notebook, ())]
        set_up = [
            name
            for name in names
            if self._progress.given(name) is not None and self._progress.data_generation(name) == now
        ]
        return [name for name in set_up if not self._progress.solved(name)]

    def forget(self) -> None:
        """Delete all progress, to restart the course."""
        self._progress.forget()

    def _exercise(self, name: str) -> Exercise:
        known = {exercise.name: exercise for exercises in course().values() for exercise in exercises}
        if name not in known:
            here = ", ".join(exercise.name for exercise in course().get(self._notebook, ()))
            raise KitError(f"There is no exercise {name!r}.", next_step=f"this notebook has: {here}")
        return known[name]


def _plain(answer: Any) -> Any:
    """Return the value of a column or table that holds only one value, because the learner means that value."""
    return (
        answer.to_numpy().item()
        if isinstance(answer, pd.Series | pd.Index | pd.DataFrame) and answer.size == 1
        else answer
    )
