"""Extension services: services that are added to a running lab, such as the learner's service in the last notebook.

An extension service has a name, and everything it owns carries that name: a database NAME in the server of one of the
lab's services, a process that runs its file (``labservices/guest.py``), and the resources that it creates itself, such
as replication slots in that database, connectors that read it, and topics ``NAME...``. No component of the lab waits
for an extension service. A reset of the lab removes all of them with everything they own. A shutdown of the lab stops
their processes.
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
    log_of_a_death,
    log_tail,
    lost_its_port,
    one_of,
)
from labstack.observability.observers import Watched
from labstack.ports import free as ports
from labstack.ports.claims import PortClaims
from labstack.state import GuestRecord, ProcessId, StateStore
from labstack.waiting import wait_until

if TYPE_CHECKING:
    from labstack.lab import Lab

USUAL_PORT = 8121
TIMEOUT = 60
"""Seconds after which a startup times out."""
GRACE = 3
"""Seconds between SIGTERM and SIGKILL when an extension service stops."""
NAME = re.compile(r"[a-z][a-z0-9]{1,29}")
TAKEN = {"postgres", "template0", "template1", "connect", "kafka", "envoy", "istiod", "prometheus", "jaeger", "grafana"}


class Guests:
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
        return list(self._store.read().guests)

    @property
    def databases(self) -> dict[str, str]:
        """The libpq URL of each extension service's database, for programs on this machine."""
        urls = self._lab.endpoints.databases
        guests = self._store.read().guests
        return {name: _in_server(urls[one.host], name) for name, one in guests.items() if one.host in urls}

    @property
    def urls(self) -> dict[str, str]:
        """The base URL of the metrics of each extension service that was started."""
        return {name: f"http://127.0.0.1:{one.port}" for name, one in self._store.read().guests.items() if one.port}

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

    def invite(self, name: str, host: str = "shipping") -> None:
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
        if not NAME.fullmatch(name) or name in TAKEN or name in known:
            raise LabError(
                f"An extension service can't be called {name!r}.",
                next_step="use a new name of 2 to 30 lowercase letters and digits, with a letter first",
            )
        with self._lab.changing():
            if host not in known:
                raise UnknownComponent(f"There is no service {host!r}.", next_step=one_of(host, known))
            state = self._store.read()
            record = state.guests.setdefault(name, GuestRecord(host))
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
            if not lost_its_port(error):
                raise
            self._start(name, file)

    def _start(self, name: str, file: Path) -> None:
        with self._lab.changing():
            self._end(name)
            state = self._store.read()
            with PortClaims(self._store.lab_id).choosing() as others:
                state.guests[name].port = port = ports.choose(USUAL_PORT, {*others, *state.ports.values()})
                self._store.write(state)
            environment = service_environment(
                database_url=self.databases[name],
                kafka=self._lab.endpoints.kafka,
                port=port,
                datasets=DATASETS,
                **self._spans_go_to(name),  # type: ignore[arg-type]
            )
            command = process.Command(
                [sys.executable, "-m", "labservices.guest", name, str(file.resolve())],
                cwd=self._lab.paths.state,
                env=environment,
            )
            marker = f"{self._store.lab_id}/{process.guest(name)}"
            identity = process.spawn(command, self._lab.paths.log(name), marker)
        self._await_ready(name, identity, f"http://127.0.0.1:{port}")

    def stop(self, name: str) -> None:
        """Stop the process of an extension service gracefully; do nothing if it does not run."""
        self._record(name)
        with self._lab.changing():
            self._end(name)

    def kill(self, name: str) -> None:
        """Kill the process of an extension service at once (SIGKILL)."""
        self._record(name)
        if not self.runs(name):
            raise NotRunning(f"{name} is not running.")
        process.destroy(self._processes(name))

    def see_off(self) -> None:
        """Stop every extension service, and remove its connectors, database with slots, topics and group."""
        guests = self._store.read().guests
        if not guests:
            return
        where = self._lab.endpoints
        with self._lab.changing():
            for name in guests:
                self._end(name)
            relay = Relay(where.connect)
            for connector in relay.connectors_of(guests):
                relay.forget(connector)
            for name, record in guests.items():
                _drop_database(where.databases[record.host], name)
                broker.forget_group(where.kafka, name)
                self._lab.paths.spans(name).unlink(missing_ok=True)
            broker.delete_topics(where.kafka, [f"{name}." for name in guests])
            self._forget()

    def end_all(self, *, forget: bool) -> None:
        """Stop the processes of all extension services, whatever else runs; with `forget`, delete their records."""
        with contextlib.suppress(LabError):
            for name in self.names:
                self._end(name)
            if forget:
                self._forget()

    def _forget(self) -> None:
        state = self._store.read()
        state.guests = {}
        self._store.write(state)

    def _record(self, name: str) -> GuestRecord:
        guests = self._store.read().guests
        if name not in guests:
            raise UnknownComponent(
                f"The lab has no extension service {name!r}.", next_step=f'call `lab.guests.invite("{name}")`'
            )
        return guests[name]

    # -- processes -------------------------------------------------------------------------------------------------

    def _processes(self, name: str) -> list[psutil.Process]:
        return process.strays(self._store.lab_id, process.guest(name))

    def _end(self, name: str) -> None:
        for one in self._processes(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.end(ProcessId.of(one.pid), signal.SIGTERM, GRACE)

    def _spans_go_to(self, name: str) -> dict[str, str]:
        state = self._store.read()
        port = state.ports.get(JAEGER_OTLP)
        collector = f"http://127.0.0.1:{port}" if port else ""
        return Watched(observed=state.observed).spans_go_to(collector, str(self._lab.paths.spans(name)))

    def _await_ready(self, name: str, identity: ProcessId, url: str) -> None:
        log, kafka = self._lab.paths.log(name), self._lab.endpoints.kafka

        def still_alive() -> None:
            if not process.alive(identity):
                raise ComponentFailed(f"{name} died while it was starting.", log=log_of_a_death(log, 8))

        def reads() -> bool:
            return http.answers(f"{url}/metrics") and bool(broker.assigned(kafka, [name])[name])

        if not wait_until(reads, TIMEOUT, meanwhile=still_alive):
            raise ComponentFailed(
                f"{name} is running, but consumes no topic after {TIMEOUT} s.", log=log_of_a_death(log, 8)
            )


def _in_server(url: str, database: str) -> str:
    return f"{url.rpartition('/')[0]}/{database}"


def _drop_database(server: str, name: str) -> None:
    """Drop the replication slots of a database, even if they are in use, and then the database."""
    with psycopg.connect(server, autocommit=True, connect_timeout=5) as connection:

        def is_free() -> bool:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s AND active",
                [name],
            )
            with contextlib.suppress(psycopg.errors.ObjectInUse):
                connection.execute(
                    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", [name]
                )
            return not connection.execute("SELECT FROM pg_replication_slots WHERE database = %s", [name]).fetchall()

        if not wait_until(is_free, 15):
            raise LabError(f"The replication slot of {name} can't be dropped.", next_step="run `lab reset` again")
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
