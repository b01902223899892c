"""A learner's progress on disk: it survives the kernel, a reset, and the lab itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from labkit.exercises.base import Outcome
from labkit.exercises.reporting import reporter
from labstack.config.paths import write_atomically

FILE = "course-progress.json"
"""The name of the file in a lab's state folder."""


class ProgressFile:
    """One file with the setups, attempts, answers and predictions, by the names of exercises and predictions.

    Parameters
    ----------
    folder : Path
        The lab's state folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = FileLock(folder / "course-progress.lock")

    def entries(self) -> dict[str, dict[str, Any]]:
        """Return all entries; an unreadable file counts as empty."""
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def given(self, name: str) -> dict[str, Any] | None:
        """Return the facts of an exercise's setup, or None if it is not set up."""
        facts: dict[str, Any] | None = self.entries().get(name, {}).get("given")
        return facts

    def data_generation(self, name: str) -> int | None:
        """Return the generation of the lab's data in which an exercise was set up."""
        beginning: int | None = self.entries().get(name, {}).get("beginning")
        return beginning

    def record_setup(self, name: str, facts: dict[str, Any] | None, beginning: int | None = None) -> None:
        """Record the setup of an exercise and its data generation, or (None) its cleanup."""
        self._change(name, given=facts, beginning=beginning)

    def record_outcome(self, name: str, outcome: Outcome, answer: str = "", message: str = "") -> None:
        """Record the outcome of a check, with the answer and the message; a solved exercise keeps its right answer."""
        if outcome == "untouched":
            return
        entry = self.entries().get(name, {})
        more: dict[str, Any] = {"attempts": int(entry.get("attempts", 0)) + 1, "at": _now()}
        if outcome == "right" or not entry.get("solved_at"):
            more |= {"answer": answer, "outcome": message}
        if outcome == "right" and not entry.get("solved_at"):
            more["solved_at"] = more["at"]
        self._change(name, **more)

    def record_solution_seen(self, name: str) -> None:
        """Record that the learner looked at the solution of an exercise before solving it."""
        if not self.solved(name):
            self._change(name, saw_solution=True)

    def record_guess(self, key: str, guess: str) -> None:
        """Record a guess. After the answer was shown, a former guess stays, and a first one is late."""
        entry = self.entries().get(key, {})
        if not (entry.get("shown") and entry.get("guess")):
            self._change(key, guess=guess, late=bool(entry.get("shown")), at=_now())

    def record_shown(self, key: str, happened: str = "") -> None:
        """Record that the answer to a prediction was shown, and what happened where it was measured."""
        self._change(key, shown=True, happened=happened)

    def record_hint(self, name: str, last: int) -> int:
        """Record that the next hint of an exercise is shown, and return its number, which is at most `last`."""
        number = min(int(self.entries().get(name, {}).get("hints", 0)) + 1, last)
        self._change(name, hints=number)
        return number

    def record_judging(self, notebook: str, step: str, kept: Mapping[str, bool], code: str = "") -> None:
        """Record the newest judging of a step of the build track; a step that passed once stays solved.

        Parameters
        ----------
        notebook : str
            The notebook, such as ``build-1``, which is also the name of the entry.
        step : str
            The step's name.
        kept : mapping
            Whether each requirement is kept, by its name; False if it was not judged.
        code : str
            The learner's file.
        """
        self.record_outcome(notebook, "right" if all(kept.values()) else "wrong", code)
        self._change(notebook, step=step, requirements=dict(kept))

    def solved(self, name: str) -> bool:
        """Return whether an exercise was ever solved."""
        return bool(self.entries().get(name, {}).get("solved_at"))

    def forget(self) -> None:
        """Delete all progress in this lab, to restart the course."""
        self._path.unlink(missing_ok=True)
        self.report()

    def report(self) -> None:
        """Send the progress in all labs of this user to the hub, if there is one with a page for it."""
        reporter.report(self._in_all_labs)

    def _in_all_labs(self) -> dict[str, dict[str, Any]]:
        """Return the entries of all labs. If two have the same name, the entries are merged.

        Of two guesses the earlier one counts, and of two answers the right one, or else the later one.
        """
        found: dict[str, dict[str, Any]] = {}
        for file in sorted(self._path.parent.parent.glob(f"*/{FILE}")):
            for name, entry in ProgressFile(file.parent).entries().items():
                found[name] = _merged(found.get(name, entry), entry)
        return found

    def _change(self, name: str, **more: Any) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            entries = self.entries()
            entries[name] = {**entries.get(name, {}), **more}
            write_atomically(self._path, json.dumps(entries, indent=1))
        self.report()


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    if one.get("guess") and other.get("guess"):
        return dict(other if str(other.get("at", "")) < str(one.get("at", "")) else one)
    better = max(one, other, key=lambda entry: (bool(entry.get("solved_at")), str(entry.get("at", ""))))
    most = {
        name: max(one.get(name, 0), other.get(name, 0))
        for name in ("attempts", "hints", "saw_solution")
        if name in one or name in other
    }
    return {**one, **other, **better, **most}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
