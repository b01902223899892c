"""One start of a lab: all components in parallel, each waiting only for its dependencies."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from labstack.backends import connect_watcher
from labstack.backends.base import Backend
from labstack.clients import broker, canary
from labstack.clients.course_start import keep_course_start
from labstack.clients.relay import Relay, connector_name, database_is_prepared
from labstack.clients.replication import put_back
from labstack.config.services import ServiceEntry, load_topics
from labstack.errors import CanaryLost, LabError, RelayFailed
from labstack.lifecycle.reset import resume_consumers
from labstack.progress import Progress
from labstack.waiting import wait_until


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
        replication slot is lost.
    """

    def __init__(
        self, services: tuple[ServiceEntry, ...], backend: Backend, progress: Progress, *, renew_slots: bool
    ) -> None:
        self.services = services
        self.backend = backend
        self.progress = progress
        self.renew_slots = renew_slots
        self._failed = threading.Event()
        self._reachable: dict[str, threading.Event] = {n: threading.Event() for n in (*backend.components(), "topics")}

    def run(self) -> None:
        """Start all components that don't run, and return when the probe events have reached every service.

        The observers start in parallel, and the lab runs without those that fail.

        Raises
        ------
        LabError
            The first failure of a required component.
        """
        with ThreadPoolExecutor(3) as watching:
            for name in self.backend.observers():
                watching.submit(self._observer, name)
            try:
                self._start_what_is_needed()
            except BaseException:
                self._failed.set()
                raise

    def _start_what_is_needed(self) -> None:
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
                    # The other jobs stop waiting at once. Only when all are done, the first cause is surely among them.
                    wait(jobs, timeout=10)
                self._raise_first({job for job in jobs if job.done()})
            except BaseException:
                self._failed.set()
                raise
        fresh = [keep_course_start(url) for url in self.backend.endpoints().databases.values()]
        with self.progress.stage("a probe event through outbox, Debezium and Kafka to each service"):
            self._canary(clean=all(fresh))

    def _raise_first(self, done: set[Future[None]]) -> None:
        errors = [error for job in done if (error := job.exception())]
        for error in sorted(errors, key=lambda e: isinstance(e, _GivenUp)):
            raise error

    def _check(self) -> None:
        if self._failed.is_set():
            raise _GivenUp("Another component failed.")

    def _wait_for(self, *names: str) -> None:
        for name in names:
            wait_until(self._reachable[name].is_set, 120, meanwhile=self._check)

    def _component(self, name: str) -> None:
        label = name
        try:
            if name in {service.name for service in self.services}:
                self._wait_for("topics")
            elif name == connect_watcher.NAME:
                # No component depends on it, so it starts late and does not delay the probe events.
                self._wait_for(*(service.name for service in self.services))
            with self.progress.stage(label):
                self.backend.launch(name)
                self.backend.await_ready(name, self._check)
            if remark := self.backend.component(name).remark:
                self.progress.say(remark)
            if name == "kafka":
                broker.make_topics(self.backend.endpoints().kafka, load_topics(self.services))
                self._reachable["topics"].set()
            if self.renew_slots and name in {service.database for service in self.services}:
                endpoints = self.backend.endpoints().databases
                put_back(next(endpoints[service.name] for service in self.services if service.database == name))
            self._reachable[name].set()
        except BaseException:
            self._failed.set()
            raise

    def _observer(self, name: str) -> None:
        """Start an observer. If that fails, the lab runs without it."""
        with contextlib.suppress(_GivenUp):
            # No component depends on it, so it starts late and does not delay the probe events.
            self._wait_for(*(service.name for service in self.services))
            try:
                with self.progress.stage(name):
                    self.backend.launch(name)
                    self.backend.await_ready(name, self._check)
            except _GivenUp:
                self.backend.stop(name)
            except LabError as error:
                self.progress.say(f"the lab runs without {name}: {error.problem}")

    def _connector(self, service: ServiceEntry) -> None:
        try:
            self._wait_for(service.database, "connect")
            with self.progress.stage(f"{connector_name(service.name)} connector"):
                url = self.backend.endpoints().databases[service.name]
                # Each probe costs PostgreSQL a new process.
                wait_until(lambda: database_is_prepared(url), 60, interval=0.1, meanwhile=self._check)
                relay = Relay(self.backend.endpoints().connect)
                relay.register(service.name, self.backend.database_for_connect(service.name), self._check)
                if self.renew_slots:
                    self._mend(relay, service.name, url)
                relay.await_task(service.name, url, self._check)
                relay.correct_position(service.name, url, self._check)
        except BaseException:
            self._failed.set()
            raise

    def _mend(self, relay: Relay, service: str, url: str) -> None:
        """Repair a connector, with a new slot if necessary.

        A conflict between the stored offset and the slot shows only when the connector runs, so wait for its task.
        """
        if not relay.is_lost(service, url):
            with contextlib.suppress(RelayFailed):
                relay.await_task(service, url, self._check, timeout=30)
                return
        relay.renew(service, url, self._check)

    def _canary(self, *, clean: bool) -> None:
        where = self.backend.endpoints()
        resume_consumers(where)
        flight = canary.let_go(where.kafka, where.databases)
        try:
            canary.watch(where.kafka, flight, 40)
        except CanaryLost as lost:
            if not self.renew_slots:
                raise
            Relay(where.connect).begin_anew(lost.services, where.databases)
            flight = canary.let_go(where.kafka, where.databases)
            canary.watch(where.kafka, flight, 40)
        canary.wait_for_services(where.kafka, flight, where.services, 30)
        if clean:
            # A new lab starts with empty topics.
            broker.delete_records(where.kafka, {key: offset + 1 for key, offset in flight.seen.items()})


class _GivenUp(LabError):
    """A component stopped waiting because another one failed."""
