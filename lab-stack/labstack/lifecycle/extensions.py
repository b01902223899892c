"""Extension services: services that are added to a running lab, such as the learner's service in the last notebook.

An extension service has a name, and everything it owns carries that name: a database NAME in the server of one of the
lab's services, a process that runs its file (``labservices/extension.py``), and the resources that it creates itself,
such as replication slots in that database, connectors that read it, and topics ``NAME...`` and ``...NAME`` (Debezium's
heartbeats). No component of the lab waits for an extension service. A reset of the lab removes all of them with
everything they own. A shutdown of the lab stops their processes.
"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from labstack.arguments import Count, checked_class
from labstack.backends.access import LabAccess
from labstack.backends.base import Backend
from labstack.backends.components import JAEGER_OTLP
from labstack.backends.processes import process
from labstack.clients import broker, consumer_groups, http
from labstack.clients.database_server import ADMINISTRATOR, READER, ROLES, DatabaseServer, create_database
from labstack.clients.databases import connect
from labstack.clients.relay import Relay
from labstack.config.paths import DATASETS
from labstack.config.settings import service_environment
from labstack.errors import (
    ComponentFailed,
    LabError,
    NotRunning,
    UnknownComponent,
    failure_log,
    is_port_conflict,
    log_tail,
    one_of,
)
from labstack.lifecycle.rules import Rules
from labstack.observability import observers
from labstack.ports import free as ports
from labstack.ports.reservations import PortReservations
from labstack.process_id import ProcessId
from labstack.state import ExtensionRecord, LabState
from labstack.waiting import poll_until

USUAL_PORT = 8121
PORT_ATTEMPTS = 4
"""Attempts to start, each after the first with another port, while other programs take the chosen one."""
TIMEOUT = 60
"""Seconds after which a startup times out."""
GRACE = 3
"""Seconds between SIGTERM and SIGKILL when an extension service stops."""
NAME = re.compile(r"[a-z][a-z0-9]{1,29}")
RESERVED_NAMES = {
    *ROLES,
    "template0",
    "template1",
    "connect",
    "kafka",
    "envoy",
    "istiod",
    *observers.NAMES,
}


@checked_class
class Extensions:
    """The extension services of one lab, by name, and the learner's Prometheus rules.

    Parameters
    ----------
    access : LabAccess
        Access to the running lab.
    """

    def __init__(self, access: LabAccess) -> None:
        self._access = access

    # -- status ----------------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The names of all extension services that were added."""
        return list(self._access.state().extensions)

    @property
    def databases(self) -> dict[str, str]:
        """The libpq URL of each extension service's database, for its owner."""
        return {name: server.url(name, name) for name, server in _servers(self._access.backend()).items()}

    @property
    def readable(self) -> dict[str, str]:
        """The libpq URL of each extension service's database, for a role that can only read."""
        return {name: server.url(READER, name) for name, server in _servers(self._access.backend()).items()}

    @property
    def urls(self) -> dict[str, str]:
        """The base URL of the metrics of each extension service that was started."""
        return {
            name: f"http://127.0.0.1:{record.port}"
            for name, record in self._access.state().extensions.items()
            if record.port
        }

    def server_for_connect(self, name: str) -> DatabaseServer:
        """Return the server of an extension service's database, as Connect reaches it."""
        backend = self._access.backend()
        return backend.database_for_connect(_record(backend.state, name).host)

    def marker(self, name: str) -> str:
        """Return the marker of an extension service's processes: the value of the environment variable SAGA_LAB."""
        return f"{self._access.store.lab_id}/{process.extension_marker(name)}"

    def runs(self, name: str) -> bool:
        """Report whether the process of an extension service is alive."""
        return bool(self._processes(name))

    def log(self, name: str, lines: Count = 40) -> str:
        """Return the last lines of an extension service's log."""
        _record(self._access.state(), name)
        return log_tail(self._access.paths.log(name), lines)

    def spans(self, name: str) -> str:
        """Return the spans that an extension service wrote to its file, as it does in a lab without Jaeger."""
        _record(self._access.state(), name)
        try:
            return self._access.paths.spans(name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    @property
    def rules(self) -> Rules:
        """The learner's own rules in Prometheus; see `labstack.lifecycle.rules`."""
        return Rules(self._access)

    # -- lifecycle -------------------------------------------------------------------------------------------------

    def create(self, name: str, host: str = "shipping") -> None:
        """Create an empty database for an extension service, unless it has one.

        Parameters
        ----------
        name : str
            Name of lowercase letters and digits that no component of the lab uses.
        host : str
            Service whose database server holds the database.

        Raises
        ------
        LabError
            The name is not allowed, or the service does not exist.
        """
        known = [service.name for service in self._access.services]
        if not NAME.fullmatch(name) or name in RESERVED_NAMES or name in known:
            raise LabError(
                f"{name!r} is not a valid name for an extension service.",
                next_step="use a new name of 2 to 30 lowercase letters and digits, with a letter first",
            )
        with self._access.changing() as backend:
            if host not in known:
                raise UnknownComponent(f"Unknown service {host!r}.", next_step=one_of(host, known))
            record = backend.state.extensions.get(name, ExtensionRecord(host))
            server = backend.server_for_extensions(record.host)
            backend.update(extensions={**backend.state.extensions, name: record})
            create_database(server, name)

    def start(self, name: str, file: Path) -> None:
        """Run the file of an extension service, and return when it consumes its topics; stop a running instance first.

        Raises
        ------
        ComponentFailed
            It died, or consumes no topic in time; carries the last lines of its log.
        """
        _record(self._access.state(), name)
        choose = ports.choose
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                return self._start(name, file, choose)
            except ComponentFailed as error:
                # Another process took the port between the check and the use, such as another lab's extension service.
                if attempt == PORT_ATTEMPTS or not is_port_conflict(error):
                    raise
                choose = ports.choose_other

    def _start(self, name: str, file: Path, choose: Callable[[int, set[int]], int]) -> None:
        with self._access.changing() as backend:
            self._stop_process(name)
            state, kafka = backend.state, backend.endpoints().kafka
            with PortReservations(state.lab_id).choosing() as others:
                port = choose(USUAL_PORT, {*others, *state.ports.values()})
                record = replace(_record(state, name), port=port)
                backend.update(extensions={**state.extensions, name: record})
            environment = service_environment(
                database_url=_servers(backend)[name].url(name, name),
                kafka=kafka,
                port=port,
                datasets=DATASETS,
                **self._span_settings(state, name),  # type: ignore[arg-type]
            )
            command = process.Command(
                [sys.executable, "-m", "labservices.extension", name, str(file.resolve())],
                cwd=self._access.paths.state,
                env=environment,
            )
            identity = process.spawn(command, self._access.paths.log(name), self.marker(name))
        self._await_ready(name, identity, kafka, f"http://127.0.0.1:{port}")

    def stop(self, name: str) -> None:
        """Stop the process of an extension service gracefully; do nothing if it does not run."""
        _record(self._access.state(), name)
        with self._access.changing():
            self._stop_process(name)

    def kill(self, name: str) -> None:
        """Kill the process of an extension service at once (SIGKILL)."""
        _record(self._access.state(), name)
        if not self.runs(name):
            raise NotRunning(f"{name} is not running.", next_step="start it with `lab.extensions.start`")
        process.destroy(self._processes(name))

    def remove_all(self) -> None:
        """Stop every extension service, and remove its connectors, database with slots, topics and group."""
        self._remove(self.names)

    def remove(self, name: str) -> None:
        """Stop one extension service, and remove everything that it owns; do nothing if none has that name."""
        self._remove([one for one in self.names if one == name])

    def _remove(self, names: list[str]) -> None:
        if not names:
            return
        with self._access.changing() as backend:
            where = backend.endpoints()
            for name in names:
                self._stop_process(name)
            relay = Relay(where.connect)
            for connector in relay.connectors_of(names):
                relay.delete(connector)
            extensions = dict(backend.state.extensions)
            for name in names:
                _drop_database(backend.database_server(extensions.pop(name).host), name)
                consumer_groups.delete_group(where.kafka, name)
                self._access.paths.spans(name).unlink(missing_ok=True)
            owned = re.compile(rf"(^|\.)({'|'.join(names)})[.-]|\.({'|'.join(names)})$")
            broker.delete_topics(where.kafka, filter(owned.search, broker.topic_names(where.kafka)))
            backend.update(extensions=extensions)

    def stop_all(self, *, forget: bool) -> None:
        """Stop the processes of all extension services, whatever else runs; with `forget`, delete their records."""
        with contextlib.suppress(LabError), self._access.exclusive(for_shutdown=True) as backend:
            for name in backend.state.extensions:
                self._stop_process(name)
            if forget:
                backend.update(extensions={})

    # -- processes -------------------------------------------------------------------------------------------------

    def _processes(self, name: str) -> list[psutil.Process]:
        return process.lab_processes(self._access.store.lab_id, process.extension_marker(name))

    def _stop_process(self, name: str) -> None:
        for running in self._processes(name):
            process.end(ProcessId.of(running.pid), signal.SIGTERM, GRACE)

    def _span_settings(self, state: LabState, name: str) -> dict[str, str]:
        port = state.ports.get(JAEGER_OTLP)
        collector = f"http://127.0.0.1:{port}" if port else ""
        return observers.ObservabilitySettings(observed=state.observed).span_settings(
            collector, str(self._access.paths.spans(name))
        )

    def _await_ready(self, name: str, identity: ProcessId, kafka: str, url: str) -> None:
        log = self._access.paths.log(name)

        def still_alive() -> None:
            if not process.alive(identity):
                raise ComponentFailed(
                    f"{name} exited during startup.",
                    log=failure_log(log, 8),
                    next_step="fix the error that the log shows in the service's file, then start the service again",
                )

        def consumes() -> bool:
            return http.answers(f"{url}/metrics") and bool(consumer_groups.assigned(kafka, [name])[name])

        if not poll_until(consumes, TIMEOUT, meanwhile=still_alive):
            raise ComponentFailed(
                f"{name} is running, but did not consume a topic within {TIMEOUT} s.",
                log=failure_log(log, 8),
                next_step="check that the topics in its file exist, and that the broker is running (`lab status`)",
            )


def _record(state: LabState, name: str) -> ExtensionRecord:
    if name not in state.extensions:
        create = "create it with `lab.extensions.create(...)`; a reset of the lab removes every extension service"
        advice = f"{one_of(name, state.extensions)}, or {create}" if state.extensions else create
        raise UnknownComponent(f"The lab has no extension service {name[:60]!r}.", next_step=advice)
    return state.extensions[name]


def _servers(backend: Backend) -> dict[str, DatabaseServer]:
    """Return the database server of each extension service."""
    known, extensions = backend.endpoints().databases, backend.state.extensions
    return {name: backend.database_server(one.host) for name, one in extensions.items() if one.host in known}


def _drop_database(server: DatabaseServer, name: str) -> None:
    """Drop the replication slots of a database, even if they are in use, and then the database and its owner."""
    with connect(server.url(ADMINISTRATOR), autocommit=True, timeout=5) as connection:

        def is_unused() -> bool:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s AND active",
                [name],
            )
            with contextlib.suppress(psycopg.errors.ObjectInUse):
                connection.execute(
                    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", [name]
                )
            return not connection.execute("SELECT FROM pg_replication_slots WHERE database = %s", [name]).fetchall()

        if not poll_until(is_unused, 15):
            raise LabError(f"The replication slot of {name} can't be dropped.", next_step="run `lab reset` again")
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
