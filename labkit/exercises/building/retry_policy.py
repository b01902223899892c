"""A retry policy."""

from __future__ import annotations

from typing import Any

from labkit.exercises.base import Bench, Verdict, Wrong, right
from labkit.exercises.own_code import CodeExercise, Function, Rejected, call
from labservices.contract import MAX_ATTEMPTS, RETRY_FIRST, RETRY_MAX


class RetryPolicy(CodeExercise):
    """Exponential backoff with jitter, and an end."""

    name = "retry-policy"
    title = "Write the retry policy: wait how long, or give up"
    level = 2
    minutes = 9
    functions = ("next_wait(attempts, error)",)
    hints = (
        "Three kinds of error: one that no retry can change, one that may pass, and one that is not the record's "
        "fault at all. The lesson has a number of attempts and a first wait.",
        "isinstance(error, ...); 0.2 * 2 ** (attempts - 1); min(..., 5); random.uniform(1, 1.5).",
        "It begins:\n    if isinstance(error, ValueError):\n        return None",
    )
    answer = """
        import random

        def next_wait(attempts, error):
            if isinstance(error, ValueError):
                return None
            if attempts >= 5 and not isinstance(error, ConnectionError):
                return None
            return min(0.2 * 2 ** (attempts - 1), 5) * random.uniform(1, 1.5)

        answer = next_wait
    """
    why = (
        "Doubling gives a temporary cause (a lock, a restart) more and more time, at little cost; jitter spreads "
        "the retries of records that failed together. An invalid record stays invalid, so it is dead-lettered at "
        "once. An absent database is not the record's fault: without the third rule, an outage of ten minutes would "
        "turn every order of these ten minutes into a dead letter. labservices/messaging/parking.py has this lab's "
        "policy."
    )
    mistakes = (
        Wrong(
            """
            def next_wait(attempts, error):
                if isinstance(error, ValueError):
                    return None
                if attempts >= 5 and not isinstance(error, ConnectionError):
                    return None
                return min(0.2 * 2 ** (attempts - 1), 5)

            answer = next_wait
            """,
            "at the same moment",
        ),
        Wrong(
            """
            import random

            def next_wait(attempts, error):
                if isinstance(error, ValueError) or attempts >= 5:
                    return None
                return min(0.2 * 2 ** (attempts - 1), 5) * random.uniform(1, 1.5)

            answer = next_wait
            """,
            "outage",
        ),
        Wrong(
            """
            import random

            def next_wait(attempts, error):
                return min(0.2 * 2 ** (attempts - 1), 5) * random.uniform(1, 1.5)

            answer = next_wait
            """,
            "can't change",
        ),
        Wrong(
            """
            import random

            def next_wait(attempts, error):
                if isinstance(error, ValueError):
                    return None
                return min(0.2 * 2 ** (attempts - 1), 5) * random.uniform(1, 1.5)

            answer = next_wait
            """,
            "forever",
        ),
        Wrong(
            """
            import random

            def next_wait(attempts, error):
                if isinstance(error, ValueError):
                    return None
                if attempts >= 5 and not isinstance(error, ConnectionError):
                    return None
                return 0.2 * 2 ** (attempts - 1) * random.uniform(1, 1.5)

            answer = next_wait
            """,
            "days",
        ),
        Wrong(
            """
            import random

            def next_wait(attempts, error):
                if isinstance(error, ValueError):
                    return None
                if attempts >= 5 and not isinstance(error, ConnectionError):
                    return None
                return 0.2 * random.uniform(1, 1.5)

            answer = next_wait
            """,
            "twice as long",
        ),
    )
    needs_setup = False

    def try_out(self, bench: Bench, *functions: Any) -> Verdict:
        (next_wait,) = functions
        if any(wait is not None for wait in self._waits(next_wait, 1, ValueError("no such schema"))):
            raise Rejected(
                "A record that can't be read (ValueError) is tried again: waiting can't change it, and its order "
                "waits with it."
            )
        for attempts in range(1, MAX_ATTEMPTS):
            self._judge_waits(attempts, self._waits(next_wait, attempts, TimeoutError("a lock")))
        if any(wait is not None for wait in self._waits(next_wait, MAX_ATTEMPTS, TimeoutError("a lock"))):
            raise Rejected(
                f"After {MAX_ATTEMPTS} failed attempts the record is tried again, forever: its order never ends, and "
                "no operator learns of it."
            )
        waits = self._waits(next_wait, 25, ConnectionError("the database is not there"))
        if any(wait is None for wait in waits):
            raise Rejected(
                "During an outage of the database (ConnectionError), good records become dead letters: each order "
                "of these minutes would have to be replayed by hand."
            )
        if max(wait for wait in waits if wait is not None) > 1.5 * RETRY_MAX:
            raise Rejected(
                f"After 25 failures the wait is {max(waits) / 86400:.0f} days: the database is back long before. "
                f"Limit the wait to {RETRY_MAX:g} s."
            )
        return right("Invalid records at once, failing ones after five attempts, and an outage costs no order.")

    def _waits(self, next_wait: Function, attempts: int, error: Exception) -> list[Any]:
        when = f"After {attempts} attempts and a {type(error).__name__}"
        waits = [call(next_wait, attempts, error, when=when) for _ in range(50)]
        if any(not isinstance(wait, int | float | None) for wait in waits):
            raise Rejected(f"{when}, next_wait returns {waits[0]!r}; it should return seconds, or None to give up.")
        return waits

    def _judge_waits(self, attempts: int, waits: list[float | None]) -> None:
        base = min(RETRY_FIRST * 2.0 ** (attempts - 1), RETRY_MAX)
        numbers = [wait for wait in waits if wait is not None]
        if len(numbers) < len(waits):
            raise Rejected(
                f"After {attempts} attempts a TimeoutError is given up: a lock that is held for a second would cost "
                "an order."
            )
        if not all(0.49 * base <= wait <= 1.51 * base for wait in numbers):
            raise Rejected(
                f"After {attempts} attempts the wait is {min(numbers):.2g} to {max(numbers):.2g} s; it should be "
                f"{base:g} s, give or take half of it: the first {RETRY_FIRST:g} s, and each twice as long as "
                "the previous one."
            )
        if len(set(numbers)) == 1:
            raise Rejected(
                "Each wait is the same: a thousand records that failed together, because of one lock, are all tried "
                "again at the same moment, again and again. Add a random part (jitter)."
            )
