"""Instances of the learner's service: processes in which a judge calls the functions of the learner's file."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from sqlalchemy import Engine, text

from labkit.waiting import wait_until
from labstack.config.environment import clean

TIMEOUT = 30.0
"""Seconds for one call."""

Point = str
"""A point of a call.

``begin:N`` and ``commit:N``: before its N-th transaction begins or commits; ``write:N``: before the N-th write that
follows a read; ``return``: after the function has returned.
"""

Call = tuple[Any, ...]
"""A function's name and its arguments."""

_BLOCKED = text(
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
)


@dataclass(frozen=True)
class InstanceAnswer:
    """The result of one call.

    Attributes
    ----------
    value : object
        The returned value.
    error : str
        The exception that the function raised at each attempt; empty if it returned.
    died : bool
        Whether the process ended before it answered.
    waits : bool
        Whether the call waits at a point.
    points : list of str
        The points that the call has passed.
    """

    value: Any = None
    error: str = ""
    died: bool = False
    waits: bool = False
    points: Sequence[Point] = ()

    @property
    def failure(self) -> str:
        """What went wrong, as the rest of a sentence; empty if the function returned."""
        if self.died:
            return f"ended the process{f' ({self.error})' if self.error else ''}"
        return f"raised {self.error}" if self.error else ""


class Instance:
    """One instance of the learner's service; `call` starts its process if it is not running.

    Parameters
    ----------
    file : Path
        The learner's file.
    environment : mapping
        The settings for the file, ``DATABASE_URL`` among them.
    """

    def __init__(self, file: Path, environment: Mapping[str, str]) -> None:
        self._file = file
        self._environment = clean({**environment, "PYTHONUNBUFFERED": "1"})
        self._process: subprocess.Popen[str] | None = None
        self._pid = 0  # of the service's process; 0 if there is none
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (`close` closes it)

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def start(self) -> InstanceAnswer:
        """Start the service's process, and return an error if the learner's file can't be imported."""
        if self._process is None:
            self._process = self._start_process()
        self._write("start")
        answer = self._next_answer()
        if answer.error:
            self._next_answer()  # the process has ended
        elif not answer.died:
            self._pid = int(answer.value)
        return answer

    def _start_process(self) -> subprocess.Popen[str]:
        main = Path(__file__).with_name("main.py")
        process = subprocess.Popen(
            [sys.executable, "-P", str(main), str(self._file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            env=self._environment,
            start_new_session=True,
        )
        assert process.stdout
        threading.Thread(target=_read, args=(process.stdout, self._answers), daemon=True).start()
        return process

    def send(
        self, function: str, *arguments: Any, crash: Point = "", wait: Point = "", attempts: int = 3
    ) -> InstanceAnswer | None:
        """Request a call, and return at once; return an error if the process can't start."""
        if not self._pid and ((started := self.start()).error or started.died):
            return started
        request = {"function": function, "arguments": arguments, "crash": crash, "wait": wait, "attempts": attempts}
        self._write(json.dumps(request))
        return None

    def call(self, function: str, *arguments: Any, crash: Point = "", attempts: int = 3) -> InstanceAnswer:
        """Call a function of the learner's file, and wait for its answer.

        Parameters
        ----------
        function : str
            The function's name.
        *arguments : object
            Its arguments, as JSON.
        crash : str, optional
            The point at which the process kills itself.
        attempts : int
            The number of calls while the function raises.
        """
        return self.send(function, *arguments, crash=crash, attempts=attempts) or self.answer()

    def answer(self) -> InstanceAnswer:
        """Wait for the answer to the last request."""
        answer = self._next_answer()
        if answer.died:
            self._pid = 0
        return answer

    def _next_answer(self) -> InstanceAnswer:
        try:
            line = self._answers.get(timeout=TIMEOUT)
        except queue.Empty:
            self.kill()
            return InstanceAnswer(error=f"no answer within {TIMEOUT:g} s", died=True)
        return InstanceAnswer(**json.loads(line)) if line else InstanceAnswer(died=True)

    def proceed(self) -> None:
        """Let a waiting call go on."""
        self._write("")

    def kill(self) -> None:
        """Kill the service's process as `kill -9` does, and wait until it has ended."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._pid = 0
            while not self._next_answer().died:
                pass  # an answer that it sent before

    def log(self, lines: int = 12) -> str:
        """Return the last lines that the process printed."""
        self._log.seek(0)
        return "\n".join(self._log.read().splitlines()[-lines:])

    def close(self) -> None:
        """End the processes, and delete their log."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            assert self._process.stdin
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._log.close()

    def _write(self, line: str) -> None:
        assert self._process
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # `answer` reports that the process has ended
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()


def _read(stream: IO[str], answers: queue.SimpleQueue[str]) -> None:
    with stream:
        for line in stream:
            answers.put(line)
    answers.put("")


@dataclass
class TwoInstances:
    """Two instances of the learner's service, and the database that they share."""

    first: Instance
    second: Instance
    engine: Engine

    def at_once(self, one: Call, other: Call, point: Point = "commit:1") -> tuple[InstanceAnswer, InstanceAnswer]:
        """Make a call in each instance, so that the second call runs while the first one waits at a point.

        The first call waits until the second one has answered or waits for a lock of the database.
        """
        failed = self.first.send(*one, wait=point)
        first = failed or self.first.answer()
        answered: list[InstanceAnswer] = []
        if refused := self.second.send(*other):
            answered.append(refused)
        else:
            reader = threading.Thread(target=lambda: answered.append(self.second.answer()), daemon=True)
            reader.start()
            if first.waits:
                wait_until(lambda: answered or self._blocked(), TIMEOUT, what="the second instance")
                self.first.proceed()
                first = self.first.answer()
            reader.join()
        return first, answered[0]

    def _blocked(self) -> bool:
        with self.engine.connect() as db:
            return bool(db.execute(_BLOCKED).scalar_one())
