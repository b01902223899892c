"""Debezium in Kafka Connect: one outbox connector per database, managed through Connect's REST interface."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, LiteralString

import httpx
import psycopg

from labstack.clients import http
from labstack.clients.database_server import RELAY, DatabaseServer
from labstack.clients.databases import connect
from labstack.clients.replication import (
    confirmed_position,
    end_of_log,
    slot_is_read,
    slot_is_usable,
    slot_status,
)
from labstack.config.paths import CONFIG
from labstack.config.templates import fill
from labstack.errors import LabError, RelayFailed
from labstack.waiting import poll_until, wait_until

Step = tuple[str, str, dict[str, Any] | None]
"""A request to a connector: method, path below the connector's path, and body."""

SHORT_PAUSE, LONG_PAUSE = 4, 20
"""Milliseconds that Debezium pauses after an empty read of the log, in a connector that has nothing to relay; with and
without timer slack.

A short pause costs processor time at rest: Debezium spins through the last millisecond of each wait of its queue. The
timer slack that the backends give Connect prevents this on Linux only. ``max.batch.size`` 1 ends the wait of the queue
as soon as there is an event.
"""

TEMPORARY_STATUSES = {404, 409, 500, 503}
"""Temporary HTTP statuses of Connect while it forms its group or creates the connector."""


HEARTBEATS = "connect-heartbeats"
"""The prefix of the connectors' heartbeat topics."""


def connector_name(service: str) -> str:
    """Return the name of a service's connector."""
    return f"{service}-outbox"


def heartbeat_topic(service: str) -> str:
    """Return the topic to which a service's connector writes a record every few seconds, so that its position moves."""
    return f"{HEARTBEATS}.{service}"


def poll_interval() -> int:
    """Return ``poll.interval.ms`` of the connectors: LAB_RELAY_POLL_MS, or the system's default.

    Raises
    ------
    LabError
        The variable's value is not an integer from 1 to 1000.
    """
    given = os.environ.get("LAB_RELAY_POLL_MS")
    if not given:
        return SHORT_PAUSE if sys.platform == "linux" else LONG_PAUSE
    if not (given.isascii() and given.isdecimal() and 1 <= int(given) <= 1000):
        raise LabError(
            f"LAB_RELAY_POLL_MS is {given!r}, which is not a number of milliseconds from 1 to 1000.",
            next_step="set it to 20, for example, or unset it",
        )
    return int(given)


def connector_config(server: DatabaseServer, pause: int | None = None) -> dict[str, str]:
    """Return the connector configuration of one service, from ``lab-stack/connect/outbox-connector.json``.

    It has no password: PostgreSQL's driver takes it from the worker's password file.

    Parameters
    ----------
    server : DatabaseServer
        The service's database server, as Connect reaches it.
    pause : int, optional
        ``poll.interval.ms``. Default: `poll_interval`.
    """
    values: dict[str, object] = {
        "SERVICE": server.service,
        "DATABASE_HOST": server.host,
        "DATABASE_PORT": server.port,
        "DATABASE_USER": RELAY,
        "HEARTBEATS": HEARTBEATS,
        "POLL_INTERVAL": pause or poll_interval(),
    }
    config: dict[str, str] = json.loads(fill(CONFIG / "connect" / "outbox-connector.json", values))
    return config


class Relay:
    """The connectors of one Connect worker.

    Parameters
    ----------
    url : str
        Base URL of Connect's REST interface.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def register(
        self,
        server: DatabaseServer,
        meanwhile: Callable[[], None] | None = None,
        timeout: float = 120,
    ) -> None:
        """Create or update a service's connector. `server` has the address at which Connect reaches the database.

        Connect answers after it has loaded Debezium's classes and asked the database: 2 s, or 20 s on a very slow host.

        Raises
        ------
        RelayFailed
            Connect rejected the configuration, or did not accept it in time; contains Connect's last answer.
        """
        service, config = server.service, connector_config(server)
        last: list[str] = ["no answer"]
        if self._config(service) == {**config, "name": connector_name(service)}:
            # Connect restarts a connector even if the new configuration is the same.
            return

        def put() -> bool:
            try:
                url = f"{self._url}/connectors/{connector_name(service)}/config"
                answer = http.request("PUT", url, json=config, timeout=20)
            except httpx.HTTPError as error:
                last[0] = str(error) or type(error).__name__
                return False
            last[0] = f"{answer.status_code} {answer.text[:500]}"
            if answer.status_code >= 400 and answer.status_code not in TEMPORARY_STATUSES:
                raise self._rejected(service, last[0])
            return answer.status_code < 400

        if not poll_until(put, timeout, meanwhile=meanwhile):
            raise self._rejected(service, last[0])

    def has_connector(self, service: str) -> bool:
        """Return whether Connect has the connector of a service. False if Connect does not answer."""
        return self._config(service) is not None

    def await_task(
        self, service: str, database_url: str, meanwhile: Callable[[], None] | None = None, timeout: float = 90
    ) -> None:
        """Wait until a connector's task runs and reads its slot; restart a failed task once.

        Raises
        ------
        RelayFailed
            The task failed again (contains its stack trace), its slot is lost, or it did not read the slot in time.
        """
        name = connector_name(service)
        restarted = 0.0

        def reads_slot() -> bool:
            nonlocal restarted
            try:
                state = self.task_states().get(name)
                if state == "FAILED" and not restarted:
                    if not slot_is_usable(database_url):
                        raise self._slot_unusable(service, database_url)
                    http.request(
                        "POST", f"{self._url}/connectors/{name}/restart?includeTasks=true&onlyFailed=true", timeout=10
                    ).raise_for_status()
                    restarted = time.monotonic()
                # Connect reports the old state for a moment after a restart.
                elif state == "FAILED" and time.monotonic() - restarted > 5:
                    raise RelayFailed(
                        f"The task of {name} failed.",
                        log="\n".join(self.trace(service).splitlines()[:12]),
                        next_step="look at `lab logs connect` and at lab-stack/connect/outbox-connector.json",
                    )
            except (httpx.HTTPError, ValueError, LookupError):
                return False
            if state == "RUNNING" and slot_is_read(database_url):
                return True
            # Debezium would retry such a slot forever.
            if slot_status(database_url) == "lost":
                raise self._slot_unusable(service, database_url)
            return False

        if not poll_until(reads_slot, timeout, meanwhile=meanwhile):
            raise RelayFailed(
                f"{name} does not read its replication slot after {timeout:.0f} s.",
                next_step="run `lab up`, which waits again; `lab logs connect` shows the progress of the connector",
            )

    def _config(self, service: str) -> dict[str, str] | None:
        """Return Connect's current configuration of a service's connector, or None."""
        try:
            answer = http.get(f"{self._url}/connectors/{connector_name(service)}/config")
            config: dict[str, str] = answer.json()
        except (httpx.HTTPError, ValueError):
            return None
        return config if answer.status_code == 200 else None

    def needs_renewal(self, service: str, database_url: str) -> bool:
        """Return whether a connector can't continue by itself.

        It can't if its slot is missing, it was stopped or paused, or its task has failed.
        """
        if not slot_is_usable(database_url):
            return True
        answer = http.get(f"{self._url}/connectors/{connector_name(service)}/status", timeout=10)
        state = answer.json().get("connector", {}).get("state")
        return state in ("STOPPED", "PAUSED") or self.task_states().get(connector_name(service)) == "FAILED"

    def renew(self, service: str, database_url: str, meanwhile: Callable[[], None] | None = None) -> None:
        """Replace a connector's slot and delete its stored offset. Events that only the old slot covered are lost.

        Raises
        ------
        RelayFailed
            Connect did not accept a request within 20 s.
        TimedOut
            PostgreSQL did not release the old slot within 20 s.
        """
        self._send_requests(connector_name(service), (("PUT", "/stop", None), ("DELETE", "/offsets", None)), meanwhile)
        # The walsender process of the slot exits a moment after its connection closes.
        wait_until(
            lambda: not slot_is_read(database_url),
            20,
            interval=0.1,
            meanwhile=meanwhile,
            what="PostgreSQL to release the outbox slot",
        )
        with connect(database_url, autocommit=True, timeout=5) as connection:
            from_outbox_slot = "FROM pg_replication_slots WHERE slot_name = 'outbox'"
            connection.execute(f"SELECT pg_drop_replication_slot(slot_name) {from_outbox_slot}")
            connection.execute(_create_slot(connection))
        self._send_requests(connector_name(service), (("PUT", "/resume", None),), meanwhile)

    def renew_all(
        self, services: Iterable[str], databases: Mapping[str, str], meanwhile: Callable[[], None] | None = None
    ) -> None:
        """Renew the connectors of some services, and return when each reads its new slot.

        Parameters
        ----------
        services : iterable of str
            Names of the services.
        databases : mapping
            libpq URL by service.
        meanwhile : callable, optional
            Called while waiting; an exception that it raises ends the wait.

        Raises
        ------
        RelayFailed
            A connector can't be renewed, or does not read its new slot.
        TimedOut
            PostgreSQL did not release an old slot within 20 s.
        """
        for service in services:
            self.renew(service, databases[service], meanwhile)
            self.await_task(service, databases[service], meanwhile)

    def correct_position(self, service: str, database_url: str, meanwhile: Callable[[], None] | None = None) -> None:
        """Reset a connector to its slot's position if the offset stored in Connect lies beyond the end of the log.

        Such an offset belongs to another database: this one was restored from an older copy, or another lab's database
        had the same port while both labs were starting. Debezium would skip every change until the log reaches the
        stored offset.

        Raises
        ------
        RelayFailed
            Connect did not accept a request within 20 s.
        """
        partition = self._position_beyond(service, database_url)
        if partition is None:
            return
        confirmed = confirmed_position(database_url)
        offset = {"lsn": confirmed, "lsn_proc": confirmed, "lsn_commit": confirmed}
        body = {"offsets": [{"partition": partition, "offset": offset}]}
        steps = (("PUT", "/stop", None), ("PATCH", "/offsets", body), ("PUT", "/resume", None))
        self._send_requests(connector_name(service), steps, meanwhile)

    def _position_beyond(self, service: str, database_url: str) -> dict[str, Any] | None:
        """Return the source partition (Connect's term) whose stored offset lies beyond the end of the log, or None."""
        end = end_of_log(database_url)
        try:
            answer = http.get(f"{self._url}/connectors/{connector_name(service)}/offsets", timeout=10)
            stored = answer.json()["offsets"]
        except (httpx.HTTPError, ValueError, LookupError):
            return None
        for entry in stored if isinstance(end, int) else ():
            if entry["offset"] and entry["offset"].get("lsn", 0) > end:
                partition: dict[str, Any] = entry["partition"]
                return partition
        return None

    def connectors_of(self, databases: Collection[str]) -> list[str]:
        """Return the names of the connectors that read one of these databases.

        Raises
        ------
        RelayFailed
            Connect does not answer.
        """
        try:
            answer = http.get(f"{self._url}/connectors", params={"expand": "info"}, timeout=10).raise_for_status()
        except httpx.HTTPError as error:
            raise RelayFailed(f"Connect did not list its connectors: {error}.", next_step="run `lab reset`") from error
        found = {name: entry["info"]["config"] for name, entry in answer.json().items()}
        return [name for name, config in found.items() if config.get("database.dbname") in databases]

    def delete(self, connector: str) -> None:
        """Delete a connector and its stored offset, so that a later connector of the same name starts without one.

        Connect can't delete the offset of a connector whose configuration lacks a required setting. Such a connector
        has never run.

        Raises
        ------
        RelayFailed
            Connect did not accept a request within 20 s.
        """
        self._send_requests(connector, (("PUT", "/stop", None),), ignore_missing=True)
        with contextlib.suppress(RelayFailed):
            self._send_requests(connector, (("DELETE", "/offsets", None),), ignore_missing=True)
        self._send_requests(connector, (("DELETE", "", None),), ignore_missing=True)

    def _send_requests(
        self,
        connector: str,
        steps: Iterable[Step],
        meanwhile: Callable[[], None] | None = None,
        ignore_missing: bool = False,
    ) -> None:
        """Send requests to a connector one after the other, and retry each until Connect accepts it.

        Raises
        ------
        RelayFailed
            Connect did not accept a request within 20 s.
        """
        last = ["no answer"]

        def accepted(method: str, path: str, body: dict[str, Any] | None) -> bool:
            try:
                answer = http.request(method, f"{self._url}/connectors/{connector}{path}", timeout=10, json=body)
            except httpx.HTTPError as error:
                last[0] = str(error) or type(error).__name__
                return False
            last[0] = f"{answer.status_code} {answer.text[:500]}"
            return answer.status_code < 400 or (ignore_missing and answer.status_code == 404)

        for step in steps:
            if not poll_until(lambda s=step: accepted(*s), 20, interval=0.1, meanwhile=meanwhile):  # type: ignore[misc]
                raise RelayFailed(
                    f"Connect did not accept {step[0]} {step[1] or '/'} for the connector {connector}: {last[0]}",
                    next_step="look at `lab logs connect`",
                )

    def _rejected(self, service: str, why: str) -> RelayFailed:
        return RelayFailed(
            f"Connect did not accept the connector {connector_name(service)}: {why}",
            next_step="look at `lab logs connect` and at lab-stack/connect/outbox-connector.json",
        )

    def task_states(self) -> dict[str, str]:
        """Return the state of each connector's task by connector: RUNNING, FAILED, PAUSED, or NONE without a task.

        The state of the connector itself stays RUNNING when its task fails, so it proves nothing.
        """
        answer = http.get(f"{self._url}/connectors", params={"expand": "status"}, timeout=2)
        answer.raise_for_status()
        states = {}
        for name, entry in answer.json().items():
            tasks = entry["status"]["tasks"]
            states[name] = tasks[0]["state"] if tasks else "NONE"
        return states

    def _slot_unusable(self, service: str, database_url: str) -> RelayFailed:
        seen = "was invalidated" if slot_status(database_url) == "lost" else "is missing"
        return RelayFailed(
            f"The replication slot of {service} {seen}, so {connector_name(service)} has lost its read position.",
            next_step="run `lab reset`; it creates a new slot and restores the baseline data",
        )

    def trace(self, service: str) -> str:
        """Return the stack trace of the failed task, or an empty string."""
        try:
            answer = http.get(f"{self._url}/connectors/{connector_name(service)}/status")
            status: dict[str, Any] = answer.json()
            return str(status["tasks"][0].get("trace", ""))
        except (httpx.HTTPError, LookupError, ValueError):
            return ""


def _create_slot(connection: psycopg.Connection) -> LiteralString:
    """Return the statement that creates the relay's slot; on a server with standbys, the slot survives a failover."""
    query = "SELECT current_setting('sync_replication_slots', true) = 'on'"  # PostgreSQL 17, "Replication Slots"
    if connection.execute(query).fetchone() == (True,):
        return "SELECT pg_create_logical_replication_slot('outbox', 'pgoutput', failover => true)"
    return "SELECT pg_create_logical_replication_slot('outbox', 'pgoutput')"
