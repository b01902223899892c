"""Helper processes: the load runs in another process than the measurement, so that neither distorts the other."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

_spawning = multiprocessing.get_context("spawn")


class HelperFailed(Exception):
    """A helper process raised an exception or exited before it answered; the message has the traceback or reason."""


class Helper:
    """A function that runs in a separate process; `result` returns its answer."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._answer, theirs = _spawning.Pipe(duplex=False)
        self._process = _spawning.Process(target=_run, args=(theirs, function, arguments), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def result(self, timeout: float) -> Any:
        """Wait for the function's answer, and return it.

        Raises
        ------
        HelperFailed
            The function raised, its process died, or it took longer than `timeout` seconds.
        """
        if not self._answer.poll(timeout):
            raise HelperFailed(f"no answer within {timeout:.0f} s")
        try:
            succeeded, answer = self._answer.recv()
        except EOFError:
            raise HelperFailed("the helper process ended without an answer") from None
        if not succeeded:
            raise HelperFailed(answer)
        return answer

    def end(self) -> None:
        """Terminate the process, even if it is busy."""
        self._process.terminate()
        self._process.join(3)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._answer.close()


@contextmanager
def helper(function: Callable[..., Any], *arguments: Any) -> Iterator[Helper]:
    """Run a function in a separate process for the duration of a block."""
    running = Helper(function, *arguments)
    try:
        yield running
    finally:
        running.end()


def _run(answer: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        answer.send((True, function(*arguments)))
    except KeyboardInterrupt:
        pass
    except BaseException:
        answer.send((False, traceback.format_exc()))
