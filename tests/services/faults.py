"""Faults inside a service while it handles an event: its process dies, or the events of an order are poisoned."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, event

from labservices.messaging import parking
from labservices.messaging.handling import Call
from tests.services.test_parking import FakeDeadLetterTopic
from tests.services.world import ServiceHarness, World


class Killed(BaseException):
    """The process dies here. No code catches this exception, because no process survives a SIGKILL."""


class Faults:
    """Breaks the four services on demand, until it is closed.

    Attributes
    ----------
    poisoned
        The orders whose handlers fail, as pairs of a service's name and an order's id.
    dead_letters
        Replaces the dead-letter topics.
    commits
        The number of commits of each service's database, so that an unchanged database need not be read again.
    """

    def __init__(self, world: World) -> None:
        self.poisoned: set[tuple[str, UUID]] = set()
        self.dead_letters = FakeDeadLetterTopic()
        self.commits: Counter[str] = Counter()
        self._statements_left: int | None = None
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(parking, "RETRY_FIRST", 0.0)
        for name, harness in world.harnesses.items():
            handling = harness.runtime.handling
            self._patch.setattr(handling, "_call", self._poison(name, handling._call))
            self._patch.setattr(handling, "_dead_letters", self.dead_letters)
        self._listeners = [
            listener
            for name, harness in world.harnesses.items()
            for listener in (
                (harness.runtime.database.engine, "before_cursor_execute", self._before_statement),
                (harness.runtime.database.engine, "commit", partial(self._before_commit, name)),
            )
        ]
        for listener in self._listeners:
            event.listen(*listener)

    def close(self) -> None:
        """Remove all faults."""
        self._patch.undo()
        for listener in self._listeners:
            event.remove(*listener)

    @contextmanager
    def crashing(self, at: int | None) -> Iterator[None]:
        """Let the process die before its ``at``-th statement, where a commit counts as one; None disables this."""
        self._statements_left = at
        try:
            yield
        finally:
            self._statements_left = None

    def _poison(self, name: str, call: Call) -> Call:
        def fail(handler: Any, tx: Any, envelope: Any) -> None:
            call(handler, tx, envelope)  # the handler's changes are rolled back
            if (name, envelope.event.order_id) in self.poisoned:
                raise RuntimeError("poison")

        return fail

    def _before_statement(self, *_: object) -> None:
        self._count_down()

    def _before_commit(self, name: str, connection: Connection) -> None:
        self._count_down()
        self.commits[name] += 1

    def _count_down(self) -> None:
        if self._statements_left is None:
            return
        self._statements_left -= 1
        if self._statements_left <= 0:
            raise Killed


def replay_all_dead_letters(harness: ServiceHarness) -> int:
    """Replay all dead letters of a service, and return their number."""
    dead = harness.rows("parked_records", state="dead")
    for row in dead:
        assert harness.http.post(f"/manage/dead-letters/{row.parking_id}/replay").status_code == 202
    return len(dead)
