"""Replays: Kafka delivers thousands of handled events again, for example after a group has lost its offsets.

A transaction for each duplicate would hold up the new events behind them. So after some duplicates in a row, a service
looks up in its inbox which events follow, and skips these without a transaction.
"""

import time
from uuid import UUID

from sqlalchemy import Connection

from labservices.messaging.inbox import Inbox

STARTS_AFTER = 10
"""Number of duplicates in a row after which a replay is expected."""

LOOKED_UP = 2000
"""Number of events that one query looks up."""

LIMIT = 50_000
"""Number of ids above which they are cleared before the next lookup."""

VALID_SECONDS = 30.0
"""Seconds after the last lookup for which the ids are used: a learner may delete rows of the inbox."""


class Replay:
    """The handled events that Kafka is about to deliver again.

    Parameters
    ----------
    inbox
        The service's inbox.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._duplicates = 0
        self._handled: set[UUID] = set()
        self._valid_until = 0.0

    def take(self, event_id: UUID) -> bool:
        """Report whether the next event is known to be a duplicate, and forget it."""
        if event_id not in self._handled:
            return False
        if time.monotonic() > self._valid_until:
            self._handled.clear()
            return False
        self._handled.remove(event_id)
        return True

    def note_new_event(self) -> None:
        """Note that the inbox did not have the last event."""
        self._duplicates = 0

    def note_duplicate(self, connection: Connection, event_id: UUID) -> None:
        """Note that the inbox had the last event; look up the next ones if a replay is expected."""
        self._duplicates += 1
        if self._duplicates < STARTS_AFTER:
            return
        if len(self._handled) > LIMIT:
            self._handled.clear()
        self._handled |= self._inbox.handled_after(connection, event_id, LOOKED_UP)
        self._valid_until = time.monotonic() + VALID_SECONDS
