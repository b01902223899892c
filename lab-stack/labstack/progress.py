"""The stages of a start, reported as they happen to an optional listener: a terminal, a notebook, or a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Stage:
    """One stage. `began` and `seconds` (its end; `None` while it runs) count from the start of the whole progress."""

    name: str
    began: float
    seconds: float | None = None
    note: str = ""
    failed: bool = False


@dataclass
class Progress:
    """A collection of stages that notifies a listener of each change.

    Parameters
    ----------
    listener : callable, optional
        Called with this object after each change, from the thread that made the change.
    """

    listener: Callable[[Progress], None] | None = None
    stages: list[Stage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _zero: float = field(default_factory=time.monotonic)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def seconds(self) -> float:
        """Seconds since this object was created."""
        return time.monotonic() - self._zero

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Run one stage; it ends with the block, and fails if the block raises."""
        stage = Stage(name, self.seconds)
        with self._lock:
            self.stages.append(stage)
            self._notify()
        try:
            yield stage
        except BaseException:
            stage.failed = True
            raise
        finally:
            with self._lock:
                stage.seconds = self.seconds
                self._notify()

    def note(self, stage: Stage, text: str) -> None:
        """Set the note of a stage, such as its progress."""
        with self._lock:
            stage.note = text
            self._notify()

    def report(self, message: str) -> None:
        """Report a message that belongs to no stage."""
        with self._lock:
            self.notes.append(message)
            self._notify()

    def _notify(self) -> None:
        if self.listener:
            self.listener(self)

    def lines(self) -> list[str]:
        """Return the stages as plain text, one line each: seconds since the start, state, name, and duration."""
        return [_line(stage) for stage in self.stages]


def _line(stage: Stage) -> str:
    note = f"  ({stage.note})" if stage.note else ""
    if stage.seconds is None:
        return f"{stage.began:6.1f} s  ...     {stage.name}{note}"
    state = "failed" if stage.failed else "done"
    return f"{stage.seconds:6.1f} s  {state:<6}  {stage.name}, {stage.seconds - stage.began:.1f} s{note}"
