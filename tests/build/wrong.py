"""Wrong answers: small edits of a step's reference, each with the outcome that the judge must report."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.build.judging import Outcome
from labkit.build.step import Task
from labkit.build.workplace import Workplace


@dataclass(frozen=True)
class WrongAnswer:
    """A typical wrong answer.

    Attributes
    ----------
    name : str
        What is wrong, as the test's id.
    edits : tuple of (str, str)
        Texts of the reference, and what replaces each; they occur exactly once.
    requirement : int
        The number of the first requirement that breaks.
    evidence : str
        A part of the evidence.
    meaning : str
        A part of the meaning for a customer.
    """

    name: str
    edits: tuple[tuple[str, str], ...]
    requirement: int
    evidence: str
    meaning: str = ""

    def code(self, task: Task) -> str:
        """Return the file with this wrong answer."""
        text = task.reference
        for old, new in self.edits:
            assert text.count(old) == 1, f"{self.name}: the reference contains {text.count(old)} times\n{old}"
            text = text.replace(old, new)
        return text


def first_broken(task: Task, place: Workplace) -> Outcome | None:
    """Run the trials until one breaks a requirement, and return its outcome; None if all are kept."""
    kept = []
    for outcome in task.trials(place):
        if not outcome.kept:
            return outcome
        kept.append(outcome.requirement)
    assert list(dict.fromkeys(kept)) == list(task.requirements)
    return None


def check(wrong: WrongAnswer, task: Task, place: Workplace) -> None:
    """Check that the judge reports a wrong answer as it must."""
    outcome = first_broken(task, place)
    assert outcome is not None, f"the judge found nothing wrong with {wrong.name}"
    assert outcome.requirement.number == wrong.requirement, outcome
    assert wrong.evidence in outcome.evidence, outcome
    assert outcome.meaning, outcome
    assert wrong.meaning in outcome.meaning, outcome
