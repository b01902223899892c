"""One start of a lab: all components in parallel, each waiting only for its dependencies."""

from __future__ import annotations

import contextlib
import math
import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial

from labstack.backends.access import LabAccess
from labstack.backends.base import Backend
from labstack.backends.choice import choose_backend
from labstack.backends.dependencies import startup_waits
from labstack.clients import broker, probe_event, transactions
from labstack.clients.course_start import has_events, save_baseline_data
from labstack.clients.relay import Relay, connector_name
from labstack.clients.replication import database_is_prepared, retained_bytes
from labstack.config.services import ServiceEntry
from labstack.errors import LabError, ProbeEventLost, RelayFailed
from labstack.lifecycle.reset import (
    TRANSACTION_CHECK,
    abort_transactions,
    client_errors_translated,
    resume_consumers,
)
from labstack.progress import Progress, Stage
from labstack.waiting import every, poll_until

STALL_TIMEOUT = 40.0
"""Seconds without progress after which the wait for the probe events fails."""


class Start:
    """One start.

    Parameters
    ----------
    services : tuple of ServiceEntry
        The services to start.
    backend : Backend
        The backend that runs the components.
    progress : Progress
        Receives each stage.
    renew_slots : bool
        Whether to restore the databases' publications, slots and settings first, and to renew a connector whose
        replication slot is lost. True only in a reset: it drops every event in flight and sends its own probe events,
        so the start waits for none.
    """

    def __init__(
        self, services: tuple[ServiceEntry, ...], backend: Backend, progress: Progress, *, renew_slots: bool
    ) -> None:
        self.services = services
        self.backend = backend
        self.progress = progress
        self.renew_slots = renew_slots
        self._failed = threading.Event()
        self._reachable: dict[str, threading.Event] = {n: threading.Event() for n in backend.components()}

    def run(self) -> None:
        """Start all components that don't run, and return when the probe events have reached every service.

        The observers start in parallel, and the lab runs without those that fail.

        Raises
        ------
        LabError
            The first failure of a required component.
        """
        observers = self.backend.observers()
        with client_errors_translated("The start"), ThreadPoolExecutor(len(observers) or 1) as observer_pool:
            for name in observers:
                observer_pool.submit(self._observer, name)
            try:
                self._start_required()
            except BaseException:
                self._failed.set()
                raise

    def _start_required(self) -> None:
        services = self.services
        jobs: list[Future[None]] = []
        with ThreadPoolExecutor(24) as pool:
            # An interrupt can arrive before every job is submitted. Running jobs must be notified of it, or they would
            # wait for components that never start.
            try:
                for name in self.backend.required():
                    jobs.append(pool.submit(self._component, name))
                for service in services:
                    jobs.append(pool.submit(self._connector, service))
                wait(jobs, return_when=FIRST_EXCEPTION)
                if self._failed.is_set():
                    # The other jobs stop waiting at once. The first cause is known for certain only when all jobs have
                    # ended.
                    wait(jobs, timeout=10)
                self._raise_first({job for job in jobs if job.done()})
            except BaseException:
                self._failed.set()
                raise
        databases = self.backend.endpoints().databases
        used = [service for service, url in databases.items() if has_events(url)]
        is_new = [save_baseline_data(url) for url in databases.values()]
        if self.renew_slots:
            return
        if used and any(is_new):
            self.progress.report(
                f"the database of {', '.join(used)} has earlier events: from now on, `lab reset` restores today's rows"
            )
        with self.progress.stage("a probe event through outbox, Debezium and Kafka to each service") as stage:
            self._send_probe_event(stage, clean=all(is_new) and not used)

    def _raise_first(self, done: set[Future[None]]) -> None:
        errors = [error for job in done if (error := job.exception())]
        for error in sorted(errors, key=lambda e: isinstance(e, _Cancelled)):
            raise error

    def _raise_if_cancelled(self) -> None:
        if self._failed.is_set():
            raise _Cancelled("Another component failed.")

    def _wait_for(self, *names: str) -> None:
        for name in names:
            # Without a separate limit: the component fails after its own timeout, and then cancels this wait.
            poll_until(self._reachable[name].is_set, math.inf, meanwhile=self._raise_if_cancelled)

    def _component(self, name: str) -> None:
        component = self.backend.component(name)
        try:
            self._wait_for(*startup_waits(component, self.backend.components()))
            if component.starts_late:
                self._wait_for(*(service.name for service in self.services))
            with self.progress.stage(name):
                self.backend.launch(name)
                self.backend.await_ready(name, self._raise_if_cancelled)
            if component.remark:
                self.progress.report(component.remark)
            component.serve_dependents(self.services, renew=self.renew_slots)
            self._reachable[name].set()
        except BaseException:
            self._failed.set()
            raise

    def _observer(self, name: str) -> None:
        """Start an observer. If that fails, the lab runs without it."""
        with contextlib.suppress(_Cancelled):
            # No component depends on it, so it starts late and does not delay the probe events.
            self._wait_for(*(service.name for service in self.services))
            try:
                with self.progress.stage(name):
                    self.backend.launch(name)
                    self.backend.await_ready(name, self._raise_if_cancelled)
            except _Cancelled:
                raise
            except LabError as error:
                self.progress.report(f"the lab runs without {name}: {error.problem}")

    def _connector(self, service: ServiceEntry) -> None:
        try:
            self._wait_for(service.database, "connect")
            with self.progress.stage(f"{connector_name(service.name)} connector"):
                url = self.backend.endpoints().databases[service.name]
                # Each probe costs PostgreSQL a new process.
                prepared = partial(database_is_prepared, url)
                poll_until(prepared, math.inf, interval=0.1, meanwhile=self._raise_if_cancelled)

                relay = Relay(self.backend.endpoints().connect)
                self.backend.register_connector(service.name, self._raise_if_cancelled)
                if self.renew_slots:
                    self._repair_connector(relay, service.name, url)
                relay.await_task(service.name, url, self._raise_if_cancelled)
                relay.correct_position(service.name, url, self._raise_if_cancelled)
        except BaseException:
            self._failed.set()
            raise

    def _repair_connector(self, relay: Relay, service: str, url: str) -> None:
        """Repair a connector, with a new slot if necessary.

        A conflict between the stored offset and the slot shows only when the connector runs, so wait for its task.
        """
        if not relay.needs_renewal(service, url):
            with contextlib.suppress(RelayFailed):
                relay.await_task(service, url, self._raise_if_cancelled, timeout=30)
                return
        relay.renew(service, url, self._raise_if_cancelled)

    def _send_probe_event(self, stage: Stage, *, clean: bool) -> None:
        where = self.backend.endpoints()
        with self.backend.every_instance() as instances:
            resume_consumers(instances)
        sent = probe_event.send(where.kafka, where.databases)
        abort_hanging = every(
            TRANSACTION_CHECK, lambda: abort_transactions(where, self.progress, transactions.PATIENCE)
        )
        try:
            probe_event.wait_for_arrival(where.kafka, sent, STALL_TIMEOUT, abort_hanging)
        except ProbeEventLost as lost:
            waiting = {s: retained_bytes(where.databases[s]) for s in lost.services}
            left = ", ".join(f"{size / 1e6:.1f} MB of {service}-db's log" for service, size in waiting.items())
            lost.problem += f" Not published yet: {left}."
            raise
        self.progress.note(stage, "it arrived in Kafka")
        behind = probe_event.wait_for_services(where.kafka, sent, where.services, STALL_TIMEOUT, abort_hanging)
        for service, records in behind.items():
            self.progress.report(f"{service} is {records} records behind and is catching up")
        if clean:
            # A new lab starts with empty topics.
            broker.delete_records(where.kafka, {key: offset + 1 for key, offset in sent.seen.items()})


def prefetch(access: LabAccess, progress: Progress) -> None:
    """Download and verify every program of a lab, so that later starts need no network; start nothing."""
    with access.exclusive(progress.report):
        choose_backend(access, progress).prefetch(progress)


class _Cancelled(LabError):
    """A component stopped waiting because another one failed."""
