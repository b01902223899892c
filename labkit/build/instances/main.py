"""The process of one instance: it calls functions of the learner's file, as its parent requests over standard input.

It runs by its path (`python -P main.py FILE`), so that it imports only the learner's file and SQLAlchemy. It imports
SQLAlchemy once, and forks a process for each life of the instance, because a killed instance then restarts at once.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import psycopg  # noqa: F401 (so that each life has it already)
from sqlalchemy import Engine, event
from sqlalchemy.dialects import postgresql  # noqa: F401
from sqlalchemy.orm import Session  # noqa: F401


class LearnerModule:
    """The learner's module, with hooks that count the transactions of a call, and wait or crash at one of them."""

    def __init__(self, module: ModuleType, answers: TextIO) -> None:
        self._module = module
        self._answers = answers
        self._passed: Counter[str] = Counter()
        self._has_read = False
        self._request: dict[str, Any] = {}
        event.listen(Engine, "begin", lambda _: self._passes("begin"))
        event.listen(Engine, "commit", lambda _: self._passes("commit"))
        event.listen(Engine, "before_cursor_execute", self._before_statement)

    def call(self, request: dict[str, Any]) -> None:
        """Call a function, several times if it raises, as a consumer that receives the record again."""
        self._request, self._passed = request, Counter()
        answer: dict[str, Any] = {}
        for _ in range(request["attempts"]):
            try:
                value = getattr(self._module, request["function"])(*request["arguments"])
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
                traceback.print_exc()
            else:
                answer = {"value": value}
                break
        if request["crash"] == "return":
            crash()
        points = [f"{kind}:{number}" for kind, count in self._passed.items() for number in range(1, count + 1)]
        self.answer({**answer, "points": points})

    def answer(self, message: dict[str, Any]) -> None:
        """Send a message to the parent."""
        try:
            line = json.dumps(message)
        except (TypeError, ValueError) as error:
            line = json.dumps({"error": f"The returned value is no JSON: {error}"})
        print(line, file=self._answers, flush=True)

    def _before_statement(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        is_read = statement.lstrip().upper().startswith("SELECT")
        if self._has_read and not is_read:
            self._passes("write")
        self._has_read = is_read

    def _passes(self, kind: str) -> None:
        self._passed[kind] += 1
        point = f"{kind}:{self._passed[kind]}"
        if self._request["crash"] == point:
            crash()
        if self._request["wait"] == point:
            self.answer({"waits": True})
            sys.stdin.readline()


def crash() -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def load(file: Path) -> ModuleType:
    """Import the learner's file."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def live(file: Path, answers: TextIO) -> None:
    """Import the learner's file, and serve calls until standard input ends."""
    try:
        instance = LearnerModule(load(file), answers)
    except BaseException as error:
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        print(json.dumps({"error": message}), file=answers, flush=True)
        return
    instance.answer({"value": os.getpid()})
    for line in iter(sys.stdin.readline, ""):
        instance.call(json.loads(line))


def main() -> None:
    """Start a life of the instance for each line of standard input, and report its end."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the learner's code prints must not mix with the answers
    for _ in iter(sys.stdin.readline, ""):
        child = os.fork()
        if child == 0:
            try:
                live(Path(sys.argv[1]), answers)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        print(json.dumps({"died": True}), file=answers, flush=True)


if __name__ == "__main__":
    main()
