"""On a hub with a page of the learners' progress, send the learner's progress there after each change.

The hub's configuration sets the address; without it, nothing is sent. `deploy/hub/values.yaml` has the values for a
class, and `deploy/hub/progress.py` serves the page.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from labkit.exercises.hand_in import as_json
from labkit.exercises.standing import Standing
from labstack.clients import http

VARIABLE = "LAB_PROGRESS_URL"
TOKEN = "JUPYTERHUB_API_TOKEN"
"""The environment variable in which the hub passes a token to the learner's server."""

Entries = Mapping[str, Mapping[str, Any]]


class Reporter:
    """Sends progress in the background: the newest only, so that a slow hub never delays a cell."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Callable[[], Entries] | None = None
        self._sender: threading.Thread | None = None

    def report(self, read: Callable[[], Entries]) -> None:
        """Send the learner's entries in the background, if the hub has a page for them.

        Parameters
        ----------
        read : callable
            Returns the entries; it is called in the background, too.
        """
        if not os.environ.get(VARIABLE):
            return
        with self._lock:
            self._waiting = read
            if self._sender is None:
                # Not a daemon: Python waits for the last report before it exits.
                self._sender = threading.Thread(target=self._send_all, name="progress-report")
                self._sender.start()

    def flush(self, seconds: float = 10) -> None:
        """Wait until everything is sent, but not longer than this."""
        if sender := self._sender:
            sender.join(seconds)

    def _send_all(self) -> None:
        while True:
            with self._lock:
                read, self._waiting = self._waiting, None
                if read is None:
                    self._sender = None
                    return
            # A report that gets lost is not repeated: the next one contains everything. No error may end this thread,
            # because then no report would be sent any more.
            with suppress(Exception):
                send(read())


def send(entries: Entries) -> None:
    """Send the progress now.

    Raises
    ------
    httpx.HTTPError
        The hub's page did not accept it.
    """
    body = as_json(Standing.of(entries), os.environ.get("JUPYTERHUB_USER", ""), datetime.now(UTC))
    headers = {"Authorization": f"token {os.environ.get(TOKEN, '')}", "Content-Type": "application/json"}
    http.request("POST", os.environ[VARIABLE], content=body.encode(), headers=headers).raise_for_status()


reporter = Reporter()
"""The sender of this process."""
