"""A learner's file as a running process, with the journal of what it does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.build.runner import Assignment
from labkit.errors import KitError
from labstack.waiting import poll_until

RUNNER = Path(__file__).with_name("runner.py")


class ProgramFailed(KitError):
    """A learner's program ended, or does not do in time what a trial waits for."""


@dataclass(frozen=True)
class Passage:
    """A line of the journal: the process passed a point (see `labkit.build.runner`).

    Attributes
    ----------
    at : float
        Seconds since 1970.
    point : str
        The point.
    detail : object
        What was done there, such as the text of a statement.
    thread : int
        The thread.
    """

    at: float
    point: str
    detail: Any
    thread: int = 0


@dataclass(frozen=True)
class CallResult:
    """What a call of a function returned, or the error that it raised."""

    call: int
    value: Any = None
    error: str = ""


class LearnerProcess:
    """A running process of a learner's file.

    Parameters
    ----------
    file : Path
        The file.
    order : Assignment
        How to run it. The paths of its journal and its results are set here.
    environment : mapping
        All environment variables of the process.
    folder : Path
        An empty folder for what the process writes; its name is the name of the process's database sessions.

    Attributes
    ----------
    file, folder : Path
        As given.
    """

    def __init__(self, file: Path, order: Assignment, environment: Mapping[str, str], folder: Path) -> None:
        self.file = file
        self.folder = folder
        order.journal, order.results = str(folder / "journal"), str(folder / "results")
        order.hold = {point: str(folder / f"release-{point}") for point in order.hold}
        order.write(folder / "order.json")
        with (folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", RUNNER, folder / "order.json", file.resolve()],
                stdin=subprocess.PIPE,  # it ends when this process ends
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=file.resolve().parent,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status; a negative number is the signal that ended the process, None means that it is running."""
        return self._process.poll()

    @property
    def journal(self) -> list[Passage]:
        """The passages of points so far, in their order."""
        return [Passage(**line) for line in _lines(self.folder / "journal")]

    @property
    def results(self) -> list[CallResult]:
        """The results of the finished calls, in the order of the calls."""
        found = [CallResult(**line) for line in _lines(self.folder / "results")]
        return sorted(found, key=lambda result: result.call)

    def output(self, lines: int = 12) -> str:
        """Return the last lines that the process printed."""
        text = (self.folder / "output").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def passed(self, point: str) -> list[Passage]:
        """Return the passages of one point."""
        return [passage for passage in self.journal if passage.point == point]

    def wait_for(self, point: str, count: int = 1, timeout: float = 30) -> Passage:
        """Wait until the process passes a point for the `count`-th time, and return that passage.

        Raises
        ------
        ProgramFailed
            The process ended before, or does not pass the point in time; with the end of its output.
        """

        def has_passed() -> Passage | None:
            found = self.passed(point)
            return found[count - 1] if len(found) >= count else None

        poll_until(lambda: not self.is_alive or has_passed(), timeout)
        if found := has_passed():  # it may have passed as the last thing before it ended
            return found
        what = f"was still running after {timeout:g} s" if self.is_alive else f"ended with status {self.status}"
        seen = self.journal[-1].point if self.journal else "nothing"
        raise self.failure(f"{what} and had not passed {point!r} {count}×; the last that it passed is {seen!r}")

    def wait(self, timeout: float = 60) -> int:
        """Wait until the process ends, and return its exit status.

        Raises
        ------
        ProgramFailed
            It is still running after `timeout` seconds; it is then killed.
        """
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self.failure(f"was still running after {timeout:g} s") from None

    def failure(self, what: str) -> ProgramFailed:
        """Return an error about this process, with the end of its output."""
        return ProgramFailed(
            f"{self.file.name} {what}.",
            log=self.output(),
            next_step=f"correct {self.file.name} where its output points, then run this cell again",
        )

    def release(self, point: str) -> None:
        """Let the process go on from the point at which it was ordered to hold."""
        (self.folder / f"release-{point}").touch()

    def freeze(self) -> None:
        """Stop the process without ending it, as an overloaded machine or a long garbage collection does."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        self._signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask the process to stop (SIGTERM), as a deployment does."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process and its children at once (SIGKILL), as a crash does."""
        self._signal(signal.SIGKILL)
        self._process.wait(10)

    def close(self) -> None:
        """Kill the process if it is running."""
        self.kill()
        if self._process.stdin:
            self._process.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a file of JSON lines; none if there is no file yet."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
