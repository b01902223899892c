"""What a judge reports: for each requirement whether the learner's code keeps it, the evidence, and the meaning."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labkit.build.program import ProgramFailed
from labkit.views.drawing.colours import BLUE, GREEN, VERMILION

WIDTH = 100


@dataclass(frozen=True)
class Requirement:
    """One requirement of a step.

    Attributes
    ----------
    number : int
        Its place in the step, from 1.
    name : str
        Its name, in a few words.
    text : str
        What must be so.
    """

    number: int
    name: str
    text: str

    def kept(self, evidence: str) -> Outcome:
        """Return the outcome of a trial in which the code kept the requirement."""
        return Outcome(self, True, evidence, "")

    def broken(self, evidence: str, meaning: str) -> Outcome:
        """Return the outcome of a trial in which the code broke the requirement."""
        return Outcome(self, False, evidence, meaning)


@dataclass(frozen=True)
class Outcome:
    """Whether the code keeps one requirement.

    Attributes
    ----------
    requirement : Requirement
        The requirement.
    kept : bool
        Whether the code keeps it.
    evidence : str
        What the judge did and saw: rows, records, times.
    meaning : str
        What it would have meant for a customer; empty if the requirement is kept.
    """

    requirement: Requirement
    kept: bool
    evidence: str
    meaning: str


@dataclass(frozen=True)
class Report:
    """The outcome of a judging, as a notebook shows it.

    Attributes
    ----------
    step : str
        The step's name.
    requirements : tuple of Requirement
        All requirements of the step.
    outcomes : tuple of Outcome
        The outcomes, at most one for each requirement; none if the stub was not changed.
    attempted : bool
        Whether the file differs from the stub.
    """

    step: str
    requirements: tuple[Requirement, ...]
    outcomes: tuple[Outcome, ...] = ()
    attempted: bool = True

    @property
    def passed(self) -> bool:
        """Whether the code keeps every requirement."""
        return [outcome.requirement for outcome in self.outcomes if outcome.kept] == list(self.requirements)

    def of(self, number: int) -> Outcome | None:
        """Return the outcome of a requirement, or None if the judge did not come that far."""
        return next((outcome for outcome in self.outcomes if outcome.requirement.number == number), None)

    @property
    def summary(self) -> str:
        """The result in one sentence."""
        first = self.requirements[0]
        if not self.attempted:
            return f"Not attempted yet. The first requirement is: {first.number} {first.name}."
        kept = sum(outcome.kept for outcome in self.outcomes)
        return f"{kept} of {len(self.requirements)} requirements kept."

    def __repr__(self) -> str:
        sign = "○" if not self.attempted else "✓" if self.passed else "✗"
        lines = [f"{sign} {self.step}: {self.summary}"]
        for requirement in self.requirements if self.attempted else ():
            outcome = self.of(requirement.number)
            mark = "○" if outcome is None else "✓" if outcome.kept else "✗"
            lines.append(f"{mark} {requirement.number} {requirement.name}{' (not judged)' if outcome is None else ''}")
            for label, text in _details(outcome):
                lines.append(
                    textwrap.fill(f"{label}{text}", WIDTH, initial_indent="    ", subsequent_indent="      ")
                    if "\n" not in text
                    else textwrap.indent(f"{label}{text}", "    ")
                )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colour = BLUE if not self.attempted else GREEN if self.passed else VERMILION
        rows = []
        for requirement in self.requirements if self.attempted else ():
            outcome = self.of(requirement.number)
            mark = "○" if outcome is None else "✓" if outcome.kept else "✗"
            state = "not judged" if outcome is None else "kept" if outcome.kept else "broken"
            details = "".join(
                f'<div><b>{label}</b><span style="white-space:pre-wrap">{html.escape(text)}</span></div>'
                for label, text in _details(outcome)
            )
            rows.append(
                f"<tr><td>{mark} {state}</td><td>{requirement.number} {html.escape(requirement.name)}</td>"
                f'<td style="text-align:left">{details}</td></tr>'
            )
        table = f"<table><tr><th></th><th>requirement</th><th></th></tr>{''.join(rows)}</table>" if rows else ""
        return (
            f'<div style="border-left:0.4em solid {colour};padding:0.2em 0.8em">'
            f"<b>{html.escape(self.step)}</b>: {html.escape(self.summary)}{table}</div>"
        )


def _details(outcome: Outcome | None) -> list[tuple[str, str]]:
    if outcome is None:
        return []
    labelled = [("Seen: ", outcome.evidence), ("For a customer: ", outcome.meaning)]
    return [(label, text) for label, text in labelled if text]


def collect(step: str, requirements: Sequence[Requirement], trials: Iterable[Outcome]) -> Report:
    """Run the trials of a judge, and return the report.

    A requirement can have several trials. Its outcome is the first in which the code breaks it, otherwise the last. A
    program that fails in a way that no trial expects breaks the requirement whose trial was next, and ends the judging.

    Parameters
    ----------
    step : str
        The step's name.
    requirements : sequence of Requirement
        All requirements of the step.
    trials : iterable of Outcome
        A generator that runs one trial after another, in the order of the requirements.
    """
    found: dict[int, Outcome] = {}
    last = requirements[0]
    try:
        for outcome in trials:
            last = outcome.requirement
            before = found.get(last.number)
            if before is None or before.kept:
                found[last.number] = outcome
    except ProgramFailed as error:
        failing = last
        if last.number in found:
            failing = next((one for one in requirements if one.number not in found), last)
        found[failing.number] = failing.broken(str(error), "The service does not run, so no return is handled at all.")
    outcomes = tuple(found[one.number] for one in requirements if one.number in found)
    return Report(step, tuple(requirements), outcomes)
