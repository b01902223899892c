"""Restart connectors whose task has failed, as an operator would do in a cluster.

Kafka Connect leaves a failed task as it is, for an operator to inspect (its documentation, "REST API": POST
/connectors/NAME/restart). Debezium retries errors that it considers transient (`errors.max.retries`), but a task that
starts just when its database shuts down fails permanently. The watcher restarts such a task at once, and then after
1, 2, 4 ... 60 seconds, as long as its replication slot exists. Without the slot, the task stays failed: Debezium would
create a new slot, and the events in between would be lost silently. That repair needs a person.

The watcher also exports PostgreSQL's data about each replication slot, since no other component queries all four.

If the databases have standbys (on Kubernetes), a failover keeps a slot only if the standby has a complete copy of it.
A former primary that becomes a standby keeps its own slot, and PostgreSQL does not replace it with a copy (its manual,
"Replication Slot Synchronization"). The watcher drops such a slot, so that the standby copies the new primary's. It
drops nothing while the primary has no usable slot: the former primary's is then the last one.

It is a standalone program that needs only the services' package. Settings are environment variables:

CONNECT_URL
    URL of Connect's REST API.
DATABASES
    JSON object: the libpq URL of the database behind each connector.
STANDBYS
    JSON object, optional: a libpq URL that leads to any standby of the database behind each connector. The role needs
    the attribute REPLICATION.
HTTP_HOST, HTTP_PORT
    Address of its metrics endpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import urllib.request
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from prometheus_client import Counter, Gauge, disable_created_metrics

from labservices.telemetry.exposition import serve_metrics

disable_created_metrics()  # the start time of each series; the services don't export it either

INTERVAL = 1.0
LONGEST_WAIT = 60.0
HEALTHY_AFTER = 10.0
"""Seconds after which a restarted task counts as healthy: some tasks fail again only after a while."""

RESTARTS = Counter("connect_watcher_restarts", "Restarts of connectors whose task had failed.", ["connector"])
LEFT_FAILED = Gauge(
    "connect_watcher_left_failed", "1 if a connector stays failed because its slot is missing.", ["connector"]
)
TASK = Gauge("connect_task_running", "Whether a connector's task runs.", ["connector"])
ACTIVE = Gauge("postgres_replication_slot_active", "Whether a process reads the slot.", ["database"])
RETAINED = Gauge(
    "postgres_replication_slot_retained_wal_bytes", "Log that PostgreSQL keeps for the slot's reader.", ["database"]
)
UNCONFIRMED = Gauge(
    "postgres_replication_slot_unconfirmed_wal_bytes", "Log that the slot's reader has not confirmed.", ["database"]
)
COPIED = Gauge(
    "postgres_replication_slot_copied", "1 if the standby that was checked last has a complete copy.", ["database"]
)
SLOT_GAUGES = (ACTIVE, RETAINED, UNCONFIRMED)

SUFFIX = "-outbox"
CONNECTION_OPTIONS = "-c statement_timeout=1000 -c tcp_user_timeout=2000"
SLOT_QUERY = """
    SELECT active::int, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::float8,
        pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::float8
    FROM pg_replication_slots WHERE slot_name = 'outbox'
"""
STANDBY_INTERVAL = 5.0
"""Seconds between two checks of a connector's standbys. Each check reaches one of them."""
DROP_LEFT_SLOT = """
    SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
    WHERE slot_name = 'outbox' AND pg_is_in_recovery() AND NOT synced AND NOT active
"""
COPY_QUERY = """
    SELECT count(*) FROM pg_replication_slots
    WHERE slot_name = 'outbox' AND pg_is_in_recovery() AND synced AND NOT temporary AND invalidation_reason IS NULL
"""

Slot = Literal["usable", "gone", "unknown"]
# Requests to Connect bypass any proxy of the machine's network.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Connector:
    """The watcher's record of one connector."""

    name: str
    database: str
    standbys: str = ""
    """A libpq URL that leads to any standby of its database; empty without standbys."""
    next_check: float = 0.0
    """When to check a standby again, in seconds on a monotonic clock."""
    standby_message: str = ""
    """The last message about its standbys."""
    restarts: int = 0
    """Number of restarts in a row."""
    not_before: float = 0.0
    last_message: str = ""
    """The last message about it, so that the log does not repeat it."""
    _connection: psycopg.Connection[Any] | None = None

    @property
    def service(self) -> str:
        """The service whose outbox it reads."""
        return self.name.removesuffix(SUFFIX)

    def slot(self) -> tuple[float, ...] | None:
        """Return the values for `SLOT_GAUGES`; None if its database does not answer, or has no slot."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(
                    self.database, connect_timeout=1, autocommit=True, options=CONNECTION_OPTIONS
                )
            return self._connection.execute(SLOT_QUERY).fetchone()
        except psycopg.Error:
            self._connection = None
            return None


@dataclass(frozen=True)
class State:
    """A connector's status in Connect: the state of its task, and the last cause in its stack trace if it failed."""

    task: str
    error: str


class Watcher:
    """A watcher of the connectors of one Connect worker.

    Parameters
    ----------
    connect : str
        URL of the worker's REST API.
    databases : dict
        The libpq URL of the database behind each connector.
    standbys : dict, optional
        A libpq URL that leads to any standby of the database behind each connector.
    """

    def __init__(self, connect: str, databases: dict[str, str], standbys: dict[str, str] | None = None) -> None:
        self._connect = connect
        self.connectors = [Connector(name, url, (standbys or {}).get(name, "")) for name, url in databases.items()]
        for connector in self.connectors:
            RESTARTS.labels(connector.name)  # starts at 0, so that PromQL's `increase` counts the first restart

    def check(self, now: float) -> None:
        """Check every connector once, and restart those that have failed.

        Parameters
        ----------
        now : float
            Seconds on a monotonic clock.
        """
        for connector in self.connectors:
            self._export_slot(connector)
            if connector.standbys and now >= connector.next_check:
                connector.next_check = now + STANDBY_INTERVAL
                self._check_standby(connector)
        try:
            states = self._states()
        except (OSError, ValueError, LookupError):
            states = None  # the worker is unavailable, or forms its group
        for connector in self.connectors:
            state = (states or {}).get(connector.name)
            TASK.labels(connector.name).set(state is not None and state.task == "RUNNING")
        if states is None:
            return
        errors = {name: state.error for name, state in states.items() if state.error}
        for connector in self.connectors:
            error = errors.get(connector.name)
            if error is not None:
                self._restart_failed(connector, error, now)
            elif now > connector.not_before:
                LEFT_FAILED.labels(connector.name).set(0)
                if now > connector.not_before + HEALTHY_AFTER:
                    connector.restarts, connector.last_message = 0, ""

    def _restart_failed(self, connector: Connector, error: str, now: float) -> None:
        if now < connector.not_before:
            return
        slot = slot_of(connector.database)
        LEFT_FAILED.labels(connector.name).set(slot == "gone")
        if slot != "usable":
            reason = "its replication slot is missing" if slot == "gone" else "its database does not answer yet"
            self._log(connector, f"{connector.name} has failed and is not restarted, because {reason}: {error}")
            return
        try:
            self._request("POST", f"/connectors/{connector.name}/restart?includeTasks=true&onlyFailed=true")
        except OSError as failure:
            self._log(connector, f"{connector.name} has failed, and Connect does not restart it now: {failure}")
            return
        RESTARTS.labels(connector.name).inc()
        connector.not_before = now + min(LONGEST_WAIT, 2.0**connector.restarts)
        connector.restarts += 1
        self._log(connector, f"{connector.name} has failed; restart {connector.restarts} in a row: {error}")

    def _log(self, connector: Connector, text: str) -> None:
        if text != connector.last_message:
            connector.last_message = text
            _print(text)

    def _export_slot(self, connector: Connector) -> None:
        """Export PostgreSQL's data about a slot; remove the series if the database is unavailable."""
        row = connector.slot()
        for gauge, value in zip(SLOT_GAUGES, row or (None,) * len(SLOT_GAUGES), strict=True):
            if value is not None:
                gauge.labels(connector.service).set(value)
            else:
                with contextlib.suppress(KeyError):
                    gauge.remove(connector.service)

    def _check_standby(self, connector: Connector) -> None:
        """Export whether a standby has a complete copy of the slot, and drop a slot of a former primary there."""
        message, is_copied = "", False
        try:
            with psycopg.connect(
                connector.standbys, connect_timeout=1, autocommit=True, options=CONNECTION_OPTIONS
            ) as standby:
                is_copied = standby.execute(COPY_QUERY).fetchone() == (1,)
                # A former primary's slot has the name of the copy, so a standby has at most one of them.
                may_drop = not is_copied and slot_of(connector.database) == "usable"
                if may_drop and standby.execute(DROP_LEFT_SLOT).rowcount:
                    message = f"dropped the slot that a former primary of {connector.service}-db had kept"
        except psycopg.Error as error:
            # If the text has no FATAL, no server has answered: all standbys are down.
            is_down = isinstance(error, psycopg.OperationalError) and "FATAL" not in str(error)
            message = "" if is_down else f"the slot on a standby of {connector.service}-db can't be checked: {error}"
        if message != connector.standby_message:
            connector.standby_message = message
            if message:
                _print(message)
        COPIED.labels(connector.service).set(is_copied)

    def _states(self) -> dict[str, State]:
        """Return the status of each connector, by name."""
        states = {}
        for name, entry in self._request("GET", "/connectors?expand=status").items():
            tasks = entry["status"]["tasks"]
            error = ""
            for status in (entry["status"]["connector"], *tasks):
                if status["state"] == "FAILED":
                    causes = [line for line in status.get("trace", "").splitlines() if not line.startswith("\t")]
                    error = causes[-1] if causes else "no reason given"
            states[name] = State(tasks[0]["state"] if tasks else "MISSING", error)
        return states

    def _request(self, method: str, path: str) -> Any:
        request = urllib.request.Request(self._connect + path, method=method)
        with _direct.open(request, timeout=5) as answer:
            return json.loads(answer.read() or b"null")


def _print(text: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%S%z"), text, flush=True)


def slot_of(database: str) -> Slot:
    """Report whether Debezium can resume from the replication slot of a database; unknown if it does not answer."""
    try:
        with psycopg.connect(database, connect_timeout=2) as connection:
            row = connection.execute(
                "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'outbox'"
            ).fetchone()
    except psycopg.Error:
        return "unknown"
    return "usable" if row and row[0] != "lost" else "gone"


def main() -> None:
    """Watch the connectors until SIGTERM."""
    # The first process of a container ignores a signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    watcher = Watcher(
        os.environ["CONNECT_URL"], json.loads(os.environ["DATABASES"]), json.loads(os.environ.get("STANDBYS", "{}"))
    )
    print(f"watching {', '.join(connector.name for connector in watcher.connectors)}", flush=True)
    serve_metrics(os.environ["HTTP_HOST"], int(os.environ["HTTP_PORT"]))
    while True:
        watcher.check(time.monotonic())
        time.sleep(INTERVAL)


if __name__ == "__main__":
    main()
