"""Faults that a soak test injects into a lab, chosen by a seed, and how each is healed."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

import httpx
import psycopg
from confluent_kafka import KafkaException

from labstack import Lab, LabError
from labstack.clients import broker, consumer_groups, http
from labstack.clients.databases import connect
from labstack.clients.relay import connector_name
from labstack.errors import StorageError
from labstack.lab import access_of
from labstack.waiting import poll_until
from tests.stack.labs import COMPONENTS

SERVICES = ("order", "inventory", "payment", "shipping")
OUTAGES = {"kill": COMPONENTS, "pause": COMPONENTS, "stop": COMPONENTS, "restart": COMPONENTS}
METHODS = {"kill": "faults.kill", "pause": "faults.pause", "stop": "stop", "restart": "stop"}
"""The method of the lab that begins an outage."""
INSTANT_FAULTS = {"rewind": SERVICES, "forget": SERVICES, "unregister": SERVICES, "sever": SERVICES}
REQUIRED_COMPONENTS = {
    "rewind": {"kafka"},
    "forget": {"kafka", "connect"},
    "unregister": {"kafka", "connect"},
    "sever": {"connect"},
}
"""Components that must run for an instantaneous fault, besides its target and the target's database."""
DISK_FULL = "fill"
DISK_OUTAGES = 3
"""Number of times that the disk is full in each round, in labs whose disk can be filled."""
SEVER = """
    SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
    WHERE slot_name = 'outbox' AND active_pid IS NOT NULL
"""

DISK_FULL_EFFECT = 30.0
"""Seconds after the disk has space again in which a component may die of what it could not write."""

LOG_LINES = 5000

Request = Callable[[], httpx.Response]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes
    ----------
    kind : str
        ``kill`` (SIGKILL) and ``stop`` (gracefully) stop a component, ``restart`` stops and starts it, ``pause``
        freezes it (SIGSTOP); ``rewind`` resets the offsets of a service's consumer group to the beginning; ``forget``
        deletes those of a service's connector; ``unregister`` deletes the connector, which is then registered again;
        ``sever`` terminates the connection that reads a service's replication slot; ``fill`` fills the lab's disk.
    target : str
        Component or service, or ``disk``.
    seconds : float
        Seconds until it is healed; 0 for an instantaneous fault.
    """

    kind: str
    target: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.target}" + (f" for {self.seconds:.1f} s" if self.seconds else "")


def fault_rounds(seed: int, *, fills_disk: bool = False) -> Iterator[Fault]:
    """Yield endless rounds of faults; each occurs once per round, in an order and for a time that the seed chooses.

    Most outages are short. One in five outlasts every timeout (3 s for Kafka's groups; 10 s in PostgreSQL, for Debezium
    and for idle transactions), so that it also overlaps with the faults after it.
    """
    rng = random.Random(seed)
    every = [(kind, target) for kind, targets in {**OUTAGES, **INSTANT_FAULTS}.items() for target in targets]
    every += [(DISK_FULL, "disk")] * (DISK_OUTAGES if fills_disk else 0)
    while True:
        for kind, target in rng.sample(every, len(every)):
            seconds = rng.uniform(10.5, 14) if rng.random() < 1 / 5 else rng.uniform(0.2, 5)
            yield Fault(kind, target, seconds if kind in (*OUTAGES, DISK_FULL) and kind != "restart" else 0.0)


@dataclass
class FaultInjector:
    """Injects faults into a lab, and heals them as a supervisor would: it starts stopped components and does not wait.

    Attributes
    ----------
    done : list
        Time and fault, in chronological order, without faults that could not be injected.
    crashes : list
        Components that died although no fault stopped them, and the disk was not full.
    filler : Path, optional
        File that fills the disk.
    """

    lab: Lab
    logs: Path
    filler: Path | None = None
    done: list[tuple[float, Fault]] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    _to_heal: dict[str, tuple[float, Fault]] = field(default_factory=dict)
    _pending_requests: dict[str, Request] = field(default_factory=dict)
    _logs_kept: int = 0
    _disk_free_since: float = float("-inf")

    def inject(self, fault: Fault) -> bool:
        """Inject a fault; return False if that is not possible now."""
        needed = {fault.target}
        if fault.kind in INSTANT_FAULTS:
            needed |= {f"{fault.target}-db"} | REQUIRED_COMPONENTS[fault.kind]
        if needed & set(self._to_heal):
            return False
        began = time.monotonic()
        try:
            if fault.kind == DISK_FULL:
                self._fill_disk()
            elif fault.kind in OUTAGES:
                attrgetter(METHODS[fault.kind])(self.lab)(fault.target)
            else:
                getattr(self, f"_{fault.kind}")(fault.target)
            if fault.kind not in INSTANT_FAULTS:
                self._to_heal[fault.target] = (began + fault.seconds, fault)
        except (LabError, httpx.HTTPError, KafkaException, psycopg.Error, NotReady):
            return False  # it has not recovered from the previous fault
        self.done.append((began, fault))
        return True

    def heal(self, *, everything: bool = False) -> list[str]:
        """Heal the faults that are due, restart components that died, and return the faults that are not healed yet.

        A component whose start can't be recorded, because the disk is full, is started again later.
        """
        for target, (due, fault) in sorted(self._to_heal.items(), key=lambda entry: entry[0] != "disk"):
            if everything or due <= time.monotonic():
                with suppress(StorageError):
                    self._heal(target, fault)
                    del self._to_heal[target]
        if "disk" not in self._to_heal:
            self._restart_dead_components()
        for url, request in list(self._pending_requests.items()):
            if succeeds(request):
                del self._pending_requests[url]
        return [str(fault) for _, fault in self._to_heal.values()] + list(self._pending_requests)

    def _heal(self, target: str, fault: Fault) -> None:
        if fault.kind == DISK_FULL:
            self._free_disk()
        elif fault.kind == "pause":
            self.lab.faults.resume(target)
        else:
            self._start(target)

    def _restart_dead_components(self) -> None:
        backend = access_of(self.lab).backend()
        for name in set(COMPONENTS) - set(self._to_heal):
            if backend.inspect(name).state == "failed":
                if time.monotonic() > self._disk_free_since + DISK_FULL_EFFECT:
                    self.crashes.append(f"{name}, after {self.done[-1][1] if self.done else 'nothing'}")
                self._start(name)

    def _start(self, name: str) -> None:
        self._logs_kept += 1
        with suppress(OSError, LabError):
            self.logs.mkdir(parents=True, exist_ok=True)
            log = access_of(self.lab).backend().log(name, LOG_LINES)
            (self.logs / f"{name}.{self._logs_kept:04d}.log").write_text(log, encoding="utf-8")
        access_of(self.lab).backend().launch(name)

    # --- instantaneous faults

    def _rewind(self, service: str) -> None:
        """Pause a service's consumer, so that it leaves its group; reset the group's offsets; resume the consumer."""
        where = self.lab.endpoints
        url = f"{where.services[service]}/manage/consumer"
        try:
            self._pending_requests[url] = lambda: http.request("POST", f"{url}/resume", timeout=5)
            http.request("POST", f"{url}/pause", timeout=10).raise_for_status()
            read = set(consumer_groups.committed_offsets(where.kafka, service))
            starts = broker.start_offsets(where.kafka, broker.partitions(where.kafka, {topic for topic, _ in read}))
            consumer_groups.commit_offsets(where.kafka, service, {place: starts[place] for place in read})
        finally:
            self._send_pending(url)

    def _forget(self, service: str) -> None:
        """Stop a connector, delete its offsets, and resume it; it restarts from its slot's position."""
        url = f"{self.lab.endpoints.connect}/connectors/{connector_name(service)}"
        try:
            self._pending_requests[url] = lambda: http.request("PUT", f"{url}/resume", timeout=5)
            retry(lambda: http.request("PUT", f"{url}/stop", timeout=2))
            retry(lambda: http.request("DELETE", f"{url}/offsets", timeout=2))
        finally:
            self._send_pending(url)

    def _unregister(self, service: str) -> None:
        """Delete a connector, and register it again with the same configuration."""
        url = f"{self.lab.endpoints.connect}/connectors/{connector_name(service)}"
        answer = http.get(f"{url}/config", timeout=2)
        config = answer.raise_for_status().json()
        try:
            self._pending_requests[url] = lambda: http.request("PUT", f"{url}/config", json=config, timeout=5)
            retry(lambda: http.request("DELETE", url, timeout=2))
        finally:
            self._send_pending(url)

    def _sever(self, service: str) -> None:
        """Terminate the connection through which Debezium reads a slot."""
        with connect(self.lab.endpoints.databases[service], timeout=2) as connection:
            if not connection.execute(SEVER).fetchall():
                raise NotReady

    def _fill_disk(self) -> None:
        if self.filler is None:
            raise NotReady
        with self.filler.open("ab", buffering=0) as file, suppress(OSError):
            disk = os.statvfs(file.fileno())
            os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize)  # gigabytes, in a second
        with self.filler.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 12)):
                pass

    def _free_disk(self) -> None:
        if self.filler is not None:
            self.filler.unlink(missing_ok=True)
        self._disk_free_since = time.monotonic()

    def _send_pending(self, url: str) -> None:
        if succeeds(self._pending_requests[url]):
            del self._pending_requests[url]


class NotReady(Exception):
    """The component that received the request is not up yet."""


def succeeds(request: Request) -> bool:
    """Report whether a request succeeds."""
    try:
        return request().status_code < 400
    except httpx.HTTPError:
        return False


def retry(request: Request, patience: float = 2.0) -> None:
    """Retry a request until it succeeds.

    Raises
    ------
    NotReady
        It has not succeeded within `patience` seconds.
    """
    if not poll_until(lambda: succeeds(request), patience, interval=0.1):
        raise NotReady
