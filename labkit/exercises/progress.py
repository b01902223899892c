"""A learner's progress on disk: it survives the kernel, a reset, and the lab itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from labkit.exercises.base import Outcome
from labstack.config.paths import write_atomically


class ProgressFile:
    """One file with the setups, attempts and solutions, by the names of exercises.

    Parameters
    ----------
    folder : Path
        The lab's state folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "course-progress.json"
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

    def record_outcome(self, name: str, outcome: Outcome) -> None:
        """Record the outcome of a check; a solved exercise stays solved."""
        if outcome == "untouched":
            return
        entry = self.entries().get(name, {})
        more: dict[str, Any] = {"attempts": int(entry.get("attempts", 0)) + 1}
        if outcome == "right" and not entry.get("solved_at"):
            more["solved_at"] = datetime.now(UTC).isoformat(timespec="seconds")
        self._change(name, **more)

    def solved(self, name: str) -> bool:
        """Return whether an exercise was ever solved."""
        return bool(self.entries().get(name, {}).get("solved_at"))

    def forget(self) -> None:
        """Delete all progress, to restart the course."""
        self._path.unlink(missing_ok=True)

    def _change(self, name: str, **more: Any) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            entries = self.entries()
            entries[name] = {**entries.get(name, {}), **more}
            write_atomically(self._path, json.dumps(entries, indent=1))
