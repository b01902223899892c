"""One step of the build track as a notebook uses it: `step.run()`, `judge`, `hint`, `solution`."""

from __future__ import annotations

import ast
import html
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from labkit.build.judging import Outcome, Report, Requirement, collect
from labkit.build.workplace import DATABASE, Workplace
from labkit.errors import KitError
from labkit.exercises.base import readable
from labkit.exercises.guess import Guess, ask, compare
from labkit.exercises.predictions import Prediction, predictions
from labkit.exercises.progress import ProgressFile
from labstack import Lab
from labstack.arguments import checked_class
from labstack.errors import one_of
from labstack.lab import access_of
from labstack.lifecycle.report import busy

FOLDER = Path("work")
"""The folder of the learner's files, relative to the notebook's folder."""

FILES = Path(__file__).with_name("files")


@contextmanager
def beside_others(lab: Lab) -> Iterator[None]:
    """Judge beside whatever else runs in the lab: the trials have a separate database, topics and processes."""
    yield


@dataclass(frozen=True)
class Task:
    """What a step asks for, and how it is judged.

    Attributes
    ----------
    name : str
        The step's name, which is also the name of the learner's file.
    notebook : str
        The notebook, such as ``build-1``.
    title : str
        The task in one line.
    requirements : tuple of Requirement
        What the learner's code must do.
    hints : tuple of str
        Three hints: where to look, what to use, the first lines.
    trials : callable
        Judges a file in a new workplace: a generator that runs one trial after another, in the order of the
        requirements, and yields the outcome of each.
    try_out : callable
        Runs a file once in the learner's workplace, and returns or prints what happened.
    alone : callable
        The context in which the file is judged. It refuses if the trials would disturb what else runs in the lab.
    """

    name: str
    notebook: str
    title: str
    requirements: tuple[Requirement, ...]
    hints: tuple[str, ...]
    trials: Callable[[Workplace], Iterable[Outcome]]
    try_out: Callable[..., Any]
    alone: Callable[[Lab], AbstractContextManager[None]] = beside_others

    def judge(self, place: Workplace) -> Report:
        """Run all trials in a new workplace, and return the report."""
        return collect(self.name, self.requirements, self.trials(place))

    @property
    def stub(self) -> str:
        """The file with which the learner starts."""
        return (FILES / self.name / "stub.py").read_text(encoding="utf-8")

    @property
    def reference(self) -> str:
        """A solution."""
        return (FILES / self.name / "reference.py").read_text(encoding="utf-8")

    def is_attempted(self, code: str) -> bool:
        """Report whether a file differs from the stub by more than its layout and comments."""
        try:
            return ast.dump(ast.parse(code)) != ast.dump(ast.parse(self.stub))
        except (SyntaxError, ValueError):
            return True


@checked_class
class BuildStep:
    """A step of the build track.

    Parameters
    ----------
    lab : Lab
        The running lab.
    task : Task
        What the step asks for.
    """

    def __init__(self, lab: Lab, task: Task) -> None:
        self._lab = lab
        self._task = task
        self._place: Workplace | None = None
        self._progress = ProgressFile(access_of(lab).paths.state)
        self.file = FOLDER / f"{task.name}.py"

    def __repr__(self) -> str:
        task = self._task
        lines = [f"{task.title} Your file is {self.file.as_posix()}. It must keep these requirements:", ""]
        for one in task.requirements:
            text = f"{one.number} {one.name}: {one.text}"
            lines.append(textwrap.fill(text, 100, subsequent_indent="  "))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        task = self._task
        rows = "".join(
            f"<tr><td>{one.number}</td><td><b>{html.escape(one.name)}</b></td>"
            f'<td style="text-align:left">{html.escape(one.text)}</td></tr>'
            for one in task.requirements
        )
        title = f"{html.escape(task.title)} Your file is <code>{self.file.as_posix()}</code>."
        return f"<p>{title} It must keep these requirements:</p><table>{rows}</table>"

    def run(self, file: str | Path | None = None, **options: Any) -> Any:
        """Run the learner's file, or another one, once in an empty database, and show what happened.

        Parameters
        ----------
        file : str or Path, optional
            Another file, such as a broken version.
        options
            What the step offers, such as ``crash="before-commit"``.
        """
        path = self._existing(file)
        if not self._task.is_attempted(path.read_text(encoding="utf-8")):
            print(f"{self.file.as_posix()} is still the stub, so there is nothing to run yet.")
            return None
        self.close()
        self._lab.extensions.remove(DATABASE)  # of a run in another kernel
        self._place = Workplace(self._lab, path, DATABASE)
        with busy(f"running {path.name}"), self._reset_explained(self._place):
            return self._task.try_out(self._place, **options)

    def rows(self, query: str) -> pd.DataFrame:
        """Return the rows of a query to the database of the last run."""
        place = self._last_place()
        with self._reset_explained(place):
            return pd.DataFrame(place.rows(query))

    @property
    def place(self) -> Workplace:
        """The workplace of the last run: database, topics, processes."""
        return self._last_place()

    def judge(self, file: str | Path | None = None) -> Report:
        """Do to the learner's file what production does, and report which requirements it keeps.

        Parameters
        ----------
        file : str or Path, optional
            Another file than the learner's; its report does not count as progress.

        Raises
        ------
        KitError
            The judge would disturb what else runs in the lab, such as a service of the capstone.
        """
        task = self._task
        path = FOLDER / f"{task.name}.py" if file is None else self._existing(file)
        if not path.exists() or not task.is_attempted(path.read_text(encoding="utf-8")):
            return Report(task.name, task.requirements, attempted=False)
        with busy(f"judging {path.name}"), task.alone(self._lab):
            place = Workplace(self._lab, path.resolve())
            with self._reset_explained(place), place:
                report = task.judge(place)
        if file is None:
            kept = {one.name: bool((outcome := report.of(one.number)) and outcome.kept) for one in task.requirements}
            code = readable(path.read_text(encoding="utf-8"))
            self._progress.record_judging(task.notebook, task.name, kept, code)
        return report

    def predict(self, name: str, guess: Any = ...) -> Guess:
        """Ask for a prediction, or commit to one; it counts if it is made before the answer is shown.

        Parameters
        ----------
        name : str
            The prediction's name.
        guess : object, optional
            One of the choices. Without it, the notebook shows buttons.
        """
        return ask(self._prediction(name), self._progress, guess, caller="step")

    def compare(self, name: str) -> None:
        """Show a prediction beside what happened. Without a prediction, show only what happened."""
        compare(self._prediction(name), self._progress)

    def hint(self) -> None:
        """Print the next hint of three: where to look, what to use, and how the file begins.

        After the third hint, each call prints the third one again.
        """
        hints = self._task.hints
        level = self._progress.record_hint(self._task.notebook, len(hints))
        for line in f"Hint {level} of {len(hints)}: {hints[level - 1]}".splitlines():
            print(line if line.startswith("    ") else textwrap.fill(line, 100))

    def solution(self) -> None:
        """Print a file that keeps all requirements."""
        print(self._task.reference.rstrip())

    def close(self) -> None:
        """Remove the database, topics and processes of the last run."""
        if self._place:
            self._place.close()
            self._place = None

    @contextmanager
    def _reset_explained(self, place: Workplace) -> Iterator[None]:
        """Raise an error that names the reset if the block fails because a reset has removed the database."""
        try:
            yield
        except Exception as error:
            if place.name in self._lab.extensions.names:
                raise
            raise KitError(
                "The lab was reset, which removed the step's database, or another notebook ran this step.",
                next_step="run this step's cells again from `step.run()` or `step.judge()` on; your file is unchanged",
            ) from error

    def _last_place(self) -> Workplace:
        if not self._place:
            raise KitError("Nothing has run yet.", next_step="run your file with `step.run()`")
        return self._place

    def _prediction(self, name: str) -> Prediction:
        known = {one.name: one for one in predictions(self._task.notebook)}
        if name not in known:
            raise KitError(f"There is no prediction {name!r}.", next_step=one_of(name, known))
        return known[name]

    def _existing(self, file: str | Path | None) -> Path:
        path = Path(file or self.file)
        if not path.exists():
            raise KitError(f"There is no file {path.as_posix()}.", next_step="run the cell that writes it")
        return path.resolve()
