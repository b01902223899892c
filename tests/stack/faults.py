"""Faults: what a soak does to a lab, chosen by a seed, and how each is healed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from confluent_kafka import KafkaException

from labstack import Lab, LabError, broker
from labstack.relay import connector_name
from labstack.waiting import wait_until
from tests.stack.labs import COMPONENTS

SERVICES = ("order", "inventory", "payment", "shipping")
OUTAGES = {"kill": COMPONENTS, "pause": COMPONENTS, "stop": COMPONENTS}
AT_ONCE = {"rewind": SERVICES, "forget": SERVICES}
NEEDS = {"rewind": {"kafka"}, "forget": {"kafka", "connect"}}
"""What must be up for what is done at once, beside the service that it is done to."""

LOG_LINES = 5000

Ask = Callable[[], httpx.Response]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes
    ----------
    kind : str
        ``kill`` (SIGKILL) and ``stop`` (in good order) end a component, ``pause`` freezes it (SIGSTOP); ``rewind``
        sends a service's consumer group back to the beginning; ``forget`` deletes what Connect knows of how far a
        service's connector has read.
    target : str
        Component, or service.
    seconds : float
        Until it is healed; 0 for what is done at once.
    """

    kind: str
    target: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.target}" + (f" for {self.seconds:.1f} s" if self.seconds else "")


def deck(seed: int) -> Iterator[Fault]:
    """Give faults without end: every one comes once in each round, in an order and for a time that the seed chooses.

    Most outages are short. One in five outlasts every timeout (of Kafka's groups 3 s; of PostgreSQL, for Debezium and
    for transactions that stand still, 10 s), so that it meets the faults after it, too.
    """
    luck = random.Random(seed)
    every = [(kind, target) for kind, targets in {**OUTAGES, **AT_ONCE}.items() for target in targets]
    while True:
        for kind, target in luck.sample(every, len(every)):
            seconds = luck.uniform(10.5, 14) if luck.random() < 1 / 5 else luck.uniform(0.2, 5)
            yield Fault(kind, target, seconds if kind in OUTAGES else 0.0)


@dataclass
class Wrecker:
    """Does faults to a lab, and heals them as a supervisor would: it starts what is down, and waits for nothing.

    Attributes
    ----------
    done : list
        Time and fault, in the order of time; what could not be done is not among them.
    deaths : list
        Components that died without being told to.
    """

    lab: Lab
    logs: Path
    done: list[tuple[float, Fault]] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    _to_heal: dict[str, tuple[float, Fault]] = field(default_factory=dict)
    _owed: dict[str, Ask] = field(default_factory=dict)
    _logs_kept: int = 0

    def begin(self, fault: Fault) -> bool:
        """Do a fault; returns False where that can't be done now."""
        wanted = {fault.target}
        if fault.kind in AT_ONCE:
            wanted |= {f"{fault.target}-db"} | NEEDS[fault.kind]
        if wanted & set(self._to_heal):
            return False
        began = time.monotonic()
        try:
            if fault.kind in OUTAGES:
                getattr(self.lab, fault.kind)(fault.target)
                self._to_heal[fault.target] = (began + fault.seconds, fault)
            else:
                {"rewind": self._rewind, "forget": self._forget}[fault.kind](fault.target)
        except (LabError, httpx.HTTPError, KafkaException, NotYet):
            return False  # it has not recovered from the fault before
        self.done.append((began, fault))
        return True

    def heal(self, *, everything: bool = False) -> list[str]:
        """Heal what is due, and start again what died by itself; returns what is not healed yet."""
        for target, (due, fault) in list(self._to_heal.items()):
            if everything or due <= time.monotonic():
                if fault.kind == "pause":
                    self.lab.resume(target)
                else:
                    self._start(target)
                del self._to_heal[target]
        backend = self.lab.backend
        for name in set(COMPONENTS) - set(self._to_heal):
            if backend.inspect(name).state == "failed":
                self.deaths.append(f"{name}, after {self.done[-1][1] if self.done else 'nothing'}")
                self._start(name)
        for url, ask in list(self._owed.items()):
            if is_good(ask):
                del self._owed[url]
        return [str(fault) for _, fault in self._to_heal.values()] + list(self._owed)

    def _start(self, name: str) -> None:
        self._logs_kept += 1
        with suppress(OSError, LabError):
            self.logs.mkdir(parents=True, exist_ok=True)
            log = self.lab.backend.log(name, LOG_LINES)
            (self.logs / f"{name}.{self._logs_kept:04d}.log").write_text(log, encoding="utf-8")
        self.lab.backend.launch(name)

    # --- what is done at once

    def _rewind(self, service: str) -> None:
        """Take a service's consumer out of its group, move the group to the beginning, and let it join again."""
        where = self.lab.endpoints
        url = f"{where.services[service]}/manage/consumer"
        try:
            self._owed[url] = lambda: httpx.post(f"{url}/resume", timeout=5)
            httpx.post(f"{url}/pause", timeout=10).raise_for_status()
            read = set(broker.committed_offsets(where.kafka, service))
            starts = broker.start_offsets(where.kafka, broker.partitions(where.kafka, {topic for topic, _ in read}))
            broker.commit_offsets(where.kafka, service, {place: starts[place] for place in read})
        finally:
            self._pay(url)

    def _forget(self, service: str) -> None:
        """Stop a connector, delete its offsets, and let it go on: it begins again where its slot stands."""
        url = f"{self.lab.endpoints.connect}/connectors/{connector_name(service)}"
        try:
            self._owed[url] = lambda: httpx.put(f"{url}/resume", timeout=5)
            insist(lambda: httpx.put(f"{url}/stop", timeout=2))
            insist(lambda: httpx.delete(f"{url}/offsets", timeout=2))
        finally:
            self._pay(url)

    def _pay(self, url: str) -> None:
        if is_good(self._owed[url]):
            del self._owed[url]


class NotYet(Exception):
    """Who was asked is not up yet."""


def is_good(ask: Ask) -> bool:
    """Whether what is asked for is done."""
    try:
        return ask().status_code < 400
    except httpx.HTTPError:
        return False


def insist(ask: Ask, patience: float = 2.0) -> None:
    """Ask until it is done.

    Raises
    ------
    NotYet
        It isn't, for as long as that.
    """
    if not wait_until(lambda: is_good(ask), patience, interval=0.1):
        raise NotYet
