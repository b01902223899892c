"""Exercises whose answer is the learner's own Python: run it, and turn what it does into a verdict.

The functions run in the kernel, as they would in the learner's own cell. Loops run in a thread with a deadline.
"""

from __future__ import annotations

import dis
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, ClassVar

import psycopg

from labkit.exercises.base import Bench, Exercise, Verdict, untouched, wrong
from labkit.waiting import wait_until
from labstack import waiting

Function = Callable[..., Any]
LOCK_SECONDS = 5
"""The time after which PostgreSQL ends a statement of the learner's that waits for a lock."""
WAITS = "SELECT 1 FROM pg_stat_activity WHERE pid = %(pid)s AND wait_event_type = 'Lock'"
EMPTY_BODY = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"}


class Rejected(Exception):
    """The learner's code does something wrong; the message says what it would do to the system."""


class CodeExercise(Exercise):
    """An exercise whose answer is a function, or a tuple of functions.

    Attributes
    ----------
    functions : tuple of str
        The functions with their parameters, for messages.
    """

    kind = "code"
    functions: ClassVar[tuple[str, ...]]

    def check(self, bench: Bench, answer: Any) -> Verdict:
        given = answer if isinstance(answer, tuple) else (answer,)
        if len(given) != len(self.functions) or not all(callable(one) for one in given):
            names = ", ".join(one.partition("(")[0] for one in self.functions)
            shown = f"({names})" if len(self.functions) > 1 else names
            return wrong(f'The answer is the function itself, without a call: tasks.check("{self.name}", {shown}).')
        if any(is_empty(one) for one in given):
            return untouched(f"Write {' and '.join(self.functions)}, and run the cell again.")
        try:
            return self.try_out(bench, *given)
        except Rejected as rejected:
            return wrong(str(rejected))

    def try_out(self, bench: Bench, *functions: Any) -> Verdict:
        """Run the functions on the lab, and return the verdict.

        Raises
        ------
        Rejected
            The code does something wrong.
        """
        raise NotImplementedError


class TablesExercise(CodeExercise):
    """An exercise with practice tables beside those of a service.

    Attributes
    ----------
    service : str
        The owner of the database.
    schema : str
        The schema of the tables.
    tables : str
        The statements that create and fill the tables.
    description : str
        The tables and their rows, for the learner.
    """

    service: ClassVar[str]
    schema: ClassVar[str]
    tables: ClassVar[str]
    description: ClassVar[str]

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        self.create_tables(bench)
        return self.description, {}

    def create_tables(self, bench: Bench) -> None:
        """Create the tables in their first state."""
        with bench.look.db.connect(self.service) as db:
            for statement in (
                f"DROP SCHEMA IF EXISTS {self.schema} CASCADE",
                f"CREATE SCHEMA {self.schema}",
                self.tables,
                f"GRANT USAGE ON SCHEMA {self.schema} TO PUBLIC",
                f"GRANT SELECT ON ALL TABLES IN SCHEMA {self.schema} TO PUBLIC",
            ):
                db.execute(statement.encode())

    def cleanup(self, bench: Bench) -> str:
        with bench.look.db.connect(self.service) as db:
            db.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE".encode())
        return f"The tables of the schema {self.schema} are dropped."


def is_empty(function: Function) -> bool:
    """Return whether a function does nothing, as a stub with `...` as its body."""
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    steps = list(dis.get_instructions(code))
    is_none = all(step.argval is None for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST"))
    return is_none and all(step.opname in EMPTY_BODY for step in steps)


def call(function: Function, *arguments: Any, when: str) -> Any:
    """Call a learner's function, and return its result.

    Parameters
    ----------
    function : callable
        The function.
    *arguments : object
        Its arguments.
    when : str
        The situation, for the message, such as ``for the second order``.

    Raises
    ------
    Rejected
        The function raises.
    """
    try:
        return function(*arguments)
    except Exception as error:
        raise Rejected(f"{when}, {describe(function, error)}") from error


def describe(function: Function, error: BaseException) -> str:
    """Return which error a function raises, in one line."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{getattr(function, '__name__', 'your function')} raises {type(error).__name__}: {first or 'no message'}."


def in_transaction(db: psycopg.Connection[Any], function: Function, *arguments: Any, when: str) -> Any:
    """Call a function with a connection as its first argument, and commit, as the caller of a handler does."""
    result = call(function, db, *arguments, when=when)
    db.commit()
    return result


def at_once(bench: Bench, service: str, function: Function, *arguments: Any) -> tuple[Any, Any]:
    """Call a function in two transactions that overlap: the second starts while the first is open.

    The first transaction commits when the second waits for it, or has ended.

    Returns
    -------
    tuple
        The two results; an exception stands for itself.
    """
    first, second, watch = (bench.look.db.connect(service) for _ in range(3))
    watch.autocommit = True  # a transaction would see the same activity again and again
    results: list[Any] = []

    def run(db: psycopg.Connection[Any]) -> None:
        try:
            results.append(function(db, *arguments))
        except Exception as error:
            results.append(error)

    def run_second() -> None:
        run(second)
        second.rollback() if isinstance(results[-1], Exception) else second.commit()

    thread = threading.Thread(target=run_second, daemon=True)
    try:
        for db in (first, second):
            db.execute(f"SET statement_timeout = '{LOCK_SECONDS}s'")
            db.commit()
        pid = second.info.backend_pid
        run(first)
        thread.start()
        wait_until(
            lambda: not thread.is_alive() or watch.execute(WAITS, {"pid": pid}).fetchone(),
            LOCK_SECONDS,
            what="the second transaction to end, or to wait for the first",
        )
        first.commit()
        thread.join(LOCK_SECONDS)
    finally:
        for db in (first, second, watch):
            db.close()
    return results[0], results[1] if len(results) > 1 else TimeoutError("the second call did not end")


@contextmanager
def replacing(function: Function, module: ModuleType, original: type, stand_in: type) -> Iterator[None]:
    """Let a learner's function use another class instead of one that it imports, during the block.

    Parameters
    ----------
    function : callable
        The function, whose cells have imported the class, or which imports it when it runs.
    module : module
        The module from which it imports the class.
    original : type
        The class.
    stand_in : type
        The class to use instead.
    """
    with ExitStack() as stack:
        for names in (getattr(function, "__globals__", {}), vars(module)):
            found = {name: value for name, value in names.items() if value is original}
            stack.callback(names.update, found)
            names.update(dict.fromkeys(found, stand_in))
        yield


def run_loop(function: Function, *arguments: Any, seconds: float, ends: Callable[[], str]) -> Exception | None:
    """Run a learner's loop in a thread until it returns or raises, and return what it raised.

    Raises
    ------
    Rejected
        The loop is still running after `seconds`; `ends`, called then, says what should have ended it.
    """
    raised: list[Exception] = []

    def run() -> None:
        try:
            function(*arguments)
        except Exception as error:
            raised.append(error.with_traceback(None))  # the frames would keep a consumer open

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if not waiting.poll_until(lambda: not thread.is_alive(), seconds):
        raise Rejected(f"The loop has not ended after {seconds:g} s. {ends()}")
    return raised[0] if raised else None
