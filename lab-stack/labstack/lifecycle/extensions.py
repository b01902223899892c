"""Extension services: services that are added to a running lab, such as the learner's service in the last notebook.

An extension service has a name, and everything it owns carries that name: a database NAME in the server of one of the
lab's services, a process that runs its file (``labservices/extension.py``), and the resources that it creates itself,
such as replication slots in that database, connectors that read it, and topics ``NAME...``. No component of the lab
waits for an extension service. A reset of the lab removes all of them with everything they own. A shutdown of the lab
stops their processes.
"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
from psycopg import sql

from labstack.backends.components import JAEGER_OTLP
from labstack.backends.processes import process
from labstack.clients import broker, http
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
from labstack.observability.observers import ObservabilitySettings
from labstack.ports import free as ports
from labstack.ports.reservations import PortReservations
from labstack.state import ExtensionRecord, ProcessId, StateStore
from labstack.waiting import poll_until

if TYPE_CHECKING:
    from labstack.lab import Lab

USUAL_PORT = 8121
TIMEOUT = 60
"""Seconds after which a startup times out."""
GRACE = 3
"""Seconds between SIGTERM and SIGKILL when an extension service stops."""
NAME = re.compile(r"[a-z][a-z0-9]{1,29}")
RESERVED_NAMES = {
    "postgres",
    "template0",
    "template1",
    "connect",
    "kafka",
    "envoy",
    "istiod",
    "prometheus",
    "jaeger",
    "grafana",
}


class Extensions:
    """The extension services of one lab, by name.

    Parameters
    ----------
    lab : Lab
        The running lab.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._store = StateStore(lab.paths)

    # -- status ----------------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The names of all extension services that were added."""
        return list(self._store.read().extensions)

    @property
    def databases(self) -> dict[str, str]:
        """The libpq URL of each extension service's database, for programs on this machine."""
        urls = self._lab.endpoints.databases
        extensions = self._store.read().extensions
        return {name: _in_server(urls[record.host], name) for name, record in extensions.items() if record.host in urls}

    @property
    def urls(self) -> dict[str, str]:
        """The base URL of the metrics of each extension service that was started."""
        return {
            name: f"http://127.0.0.1:{record.port}"
            for name, record in self._store.read().extensions.items()
            if record.port
        }

    def database_for_connect(self, name: str) -> str:
        """Return the libpq URL of an extension service's database, as Connect reaches it."""
        return _in_server(self._lab.backend.database_for_connect(self._record(name).host), name)

    def runs(self, name: str) -> bool:
        """Report whether the process of an extension service is alive."""
        return bool(self._processes(name))

    def log(self, name: str, lines: int = 40) -> str:
        """Return the last lines of an extension service's log."""
        return log_tail(self._lab.paths.log(name), lines)

    def spans(self, name: str) -> str:
        """Return the spans that an extension service wrote to its file, as it does in a lab without Jaeger."""
        try:
            return self._lab.paths.spans(name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

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
            The name is not allowed, or there is no such service.
        """
        known = self._lab.endpoints.databases
        if not NAME.fullmatch(name) or name in RESERVED_NAMES or name in known:
            raise LabError(
                f"An extension service can't be called {name!r}.",
                next_step="use a new name of 2 to 30 lowercase letters and digits, with a letter first",
            )
        with self._lab.changing():
            if host not in known:
                raise UnknownComponent(f"There is no service {host!r}.", next_step=one_of(host, known))
            state = self._store.read()
            record = state.extensions.setdefault(name, ExtensionRecord(host))
            self._store.write(state)
            with psycopg.connect(known[record.host], autocommit=True, connect_timeout=5) as connection:
                if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchall():
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def start(self, name: str, file: Path) -> None:
        """Run the file of an extension service, and return when it consumes its topics; stop a running instance first.

        Raises
        ------
        ComponentFailed
            It died, or consumes no topic in time; carries the last lines of its log.
        """
        self._record(name)
        try:
            self._start(name, file)
        except ComponentFailed as error:
            # Another process took the port between the check and the use, such as another lab's extension service.
            if not is_port_conflict(error):
                raise
            self._start(name, file)

    def _start(self, name: str, file: Path) -> None:
        with self._lab.changing():
            self._stop_process(name)
            state = self._store.read()
            with PortReservations(self._store.lab_id).choosing() as others:
                state.extensions[name].port = port = ports.choose(USUAL_PORT, {*others, *state.ports.values()})
                self._store.write(state)
            environment = service_environment(
                database_url=self.databases[name],
                kafka=self._lab.endpoints.kafka,
                port=port,
                datasets=DATASETS,
                **self._span_settings(name),  # type: ignore[arg-type]
            )
            command = process.Command(
                [sys.executable, "-m", "labservices.extension", name, str(file.resolve())],
                cwd=self._lab.paths.state,
                env=environment,
            )
            marker = f"{self._store.lab_id}/{process.extension_marker(name)}"
            identity = process.spawn(command, self._lab.paths.log(name), marker)
        self._await_ready(name, identity, f"http://127.0.0.1:{port}")

    def stop(self, name: str) -> None:
        """Stop the process of an extension service gracefully; do nothing if it does not run."""
        self._record(name)
        with self._lab.changing():
            self._stop_process(name)

    def kill(self, name: str) -> None:
        """Kill the process of an extension service at once (SIGKILL)."""
        self._record(name)
        if not self.runs(name):
            raise NotRunning(f"{name} is not running.")
        process.destroy(self._processes(name))

    def remove_all(self) -> None:
        """Stop every extension service, and remove its connectors, database with slots, topics and group."""
        extensions = self._store.read().extensions
        if not extensions:
            return
        where = self._lab.endpoints
        with self._lab.changing():
            for name in extensions:
                self._stop_process(name)
            relay = Relay(where.connect)
            for connector in relay.connectors_of(extensions):
                relay.delete(connector)
            for name, record in extensions.items():
                _drop_database(where.databases[record.host], name)
                broker.delete_group(where.kafka, name)
                self._lab.paths.spans(name).unlink(missing_ok=True)
            broker.delete_topics(where.kafka, [f"{name}." for name in extensions])
            self._forget()

    def stop_all(self, *, forget: bool) -> None:
        """Stop the processes of all extension services, whatever else runs; with `forget`, delete their records."""
        with contextlib.suppress(LabError):
            for name in self.names:
                self._stop_process(name)
            if forget:
                self._forget()

    def _forget(self) -> None:
        state = self._store.read()
        state.extensions = {}
        self._store.write(state)

    def _record(self, name: str) -> ExtensionRecord:
        extensions = self._store.read().extensions
        if name not in extensions:
            raise UnknownComponent(
                f"The lab has no extension service {name!r}.", next_step=f'call `lab.extensions.create("{name}")`'
            )
        return extensions[name]

    # -- processes -------------------------------------------------------------------------------------------------

    def _processes(self, name: str) -> list[psutil.Process]:
        return process.lab_processes(self._store.lab_id, process.extension_marker(name))

    def _stop_process(self, name: str) -> None:
        for running in self._processes(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.end(ProcessId.of(running.pid), signal.SIGTERM, GRACE)

    def _span_settings(self, name: str) -> dict[str, str]:
        state = self._store.read()
        port = state.ports.get(JAEGER_OTLP)
        collector = f"http://127.0.0.1:{port}" if port else ""
        return ObservabilitySettings(observed=state.observed).span_settings(collector, str(self._lab.paths.spans(name)))

    def _await_ready(self, name: str, identity: ProcessId, url: str) -> None:
        log, kafka = self._lab.paths.log(name), self._lab.endpoints.kafka

        def still_alive() -> None:
            if not process.alive(identity):
                raise ComponentFailed(f"{name} died while it was starting.", log=failure_log(log, 8))

        def consumes() -> bool:
            return http.answers(f"{url}/metrics") and bool(broker.assigned(kafka, [name])[name])

        if not poll_until(consumes, TIMEOUT, meanwhile=still_alive):
            raise ComponentFailed(
                f"{name} is running, but consumes no topic after {TIMEOUT} s.", log=failure_log(log, 8)
            )


def _in_server(url: str, database: str) -> str:
    return f"{url.rpartition('/')[0]}/{database}"


def _drop_database(server: str, name: str) -> None:
    """Drop the replication slots of a database, even if they are in use, and then the database."""
    with psycopg.connect(server, autocommit=True, connect_timeout=5) as connection:

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
