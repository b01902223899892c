"""The cost of observability, and the time until views show events.

Cost: two labs run at once, one with LAB_OBSERVABILITY=auto and one with off, each on its own half of the processors,
and drain backlogs of orders at the same times, as in `guards`. So other load on the machine affects both. Successive
drains of the same lab would differ by more than the difference in question. The halves are swapped from round to round.
Memory (PSS) is read while both run. Grafana is not counted: it belongs to a person, not to the lab.

Views: a map and a stream listen, as in a notebook, while orders are placed at a calm rate and at one that generates 200
events per second. The benchmark measures the time from an outbox row's timestamp (``ce_time``, set in its transaction)
until the view has its record, and until the batch that updates the page.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Latency
from benchmarks.guards import drain
from benchmarks.helper import helper
from benchmarks.load import place_orders
from benchmarks.own_lab import own_lab
from labkit.aliases import Aliases
from labkit.views.feed import Feed, Observation, States
from labkit.views.stream import EventStream
from labkit.views.system_map import SystemMap
from labstack.lab import Lab

SETTING = "LAB_OBSERVABILITY"
RATES = {"calm": 4.0, "200 events/s": 28.0}
"""Orders per second; an order of the stream `load` generates about seven events: rows, and as many records."""


class TimedStream(EventStream):
    """A stream that records when it has a record, and when it would have updated a page."""

    def __init__(self, feed: Feed, aliases: Aliases) -> None:
        self.arrived: list[float] = []
        self.sent: list[float] = []
        self._pending: list[float] = []
        super().__init__(feed, aliases)

    def apply(self, observations: list[Observation], states: States | None) -> None:
        super().apply(observations, states)
        now = time.time()
        for one in observations:
            made = one.record.headers.get("ce_time") if one.record else None
            if made:
                at = datetime.fromisoformat(made).timestamp()
                self.arrived.append(now - at)
                self._pending.append(at)

    def batch(self) -> dict[str, Any] | None:
        now = time.time()
        self.sent += [now - at for at in self._pending]
        self._pending.clear()
        return super().batch()

    @property
    def pages(self) -> bool:
        """Whether a page shows the stream."""
        return self._page is not None


def measure(*, quick: bool, console: Console) -> dict[str, Any]:
    """Measure the cost, then the views."""
    rounds, drains, seconds = (1, 1, 1.0) if quick else (4, 4, 3.0)
    rates_by_variant: dict[str, list[float]] = {"on": [], "off": []}
    sizes: dict[str, list[float]] = {"on": [], "off": []}
    before, all_processors = os.environ.get(SETTING), os.sched_getaffinity(0)
    try:
        with own_lab() as observed, own_lab() as unobserved:
            for number in range(rounds):
                halves = _halves(all_processors, swapped=number % 2 == 1)
                with _running(
                    MeasuredLab(observed, "auto", halves[0]), MeasuredLab(unobserved, "off", halves[1])
                ) as labs:
                    for again in range(drains + 1):
                        rates = _drain_at_once(labs, seconds)
                        if again:  # the first warms up code that is compiled while it runs
                            for variant, rate in zip(("on", "off"), rates, strict=True):
                                rates_by_variant[variant].append(rate)
                            summary = f"{rates[0]:.1f} orders/s watched, {rates[1]:.1f} not"
                            console.print(f"round {number + 1}, drain {again}: {summary}, {rates[0] / rates[1]:.2f}")
                    for variant, measured in zip(("on", "off"), labs, strict=True):
                        sizes[variant].append(_memory(measured.lab) / 1e6)
            os.sched_setaffinity(0, all_processors)
            lab = observed
            os.environ[SETTING] = "auto"
            lab.up()
            observers = sorted(lab.endpoints.observers)
            views = {name: _views(lab, rate, 3.0 if quick else 20.0) for name, rate in RATES.items()}
    finally:
        os.sched_setaffinity(0, all_processors)
        os.environ.pop(SETTING, None)
        if before is not None:
            os.environ[SETTING] = before
    ratios = [on / off for on, off in zip(rates_by_variant["on"], rates_by_variant["off"], strict=True)]
    added_memory = [on - off for on, off in zip(sizes["on"], sizes["off"], strict=True)]
    return {
        "quick": quick,
        "observers": observers,
        "orders_per_s": rates_by_variant,
        "ratios": ratios,
        "ratio": median(ratios),
        "memory_mb": sizes,
        "more_memory_mb": median(added_memory),
        "views": views,
    }


@dataclass(frozen=True)
class MeasuredLab:
    """A lab, its observability setting, and its processors."""

    lab: Lab
    observability: str
    processors: set[int]

    def up(self) -> None:
        """Start the lab on its processors: the processes that a thread starts inherit its affinity."""
        os.environ[SETTING] = self.observability
        os.sched_setaffinity(0, self.processors)
        self.lab.up()

    def drain(self, seconds: float, barrier: threading.Barrier) -> float:
        """Drain a backlog on these processors, and return the orders per second."""
        os.sched_setaffinity(0, self.processors)
        return drain(self.lab, seconds, barrier.wait)


def _halves(processors: set[int], *, swapped: bool) -> tuple[set[int], set[int]]:
    """Split the processors into two halves; both share a single processor."""
    listed = sorted(processors)
    first, second = set(listed[::2]), set(listed[1::2]) or set(listed)
    return (second, first) if swapped else (first, second)


@contextmanager
def _running(*labs: MeasuredLab) -> Iterator[tuple[MeasuredLab, ...]]:
    for measured in labs:
        measured.up()
    yield labs
    for measured in labs:
        measured.lab.down()


def _drain_at_once(labs: tuple[MeasuredLab, ...], seconds: float) -> list[float]:
    """Start consuming in all labs at the same time, and return the orders per second of each."""
    barrier = threading.Barrier(len(labs), timeout=120)
    with ThreadPoolExecutor(len(labs)) as pool:
        return list(pool.map(lambda measured: measured.drain(seconds, barrier), labs))


def _memory(lab: Lab) -> int:
    """Return the PSS of all components except Grafana, in bytes."""
    components = lab.status(memory=True).components.items()
    return sum(status.rss_bytes or 0 for name, status in components if name != "grafana")


def _views(lab: Lab, rate: float, seconds: float) -> dict[str, Any]:
    """Show a map and a stream while orders are placed, and return the times until they had the records."""
    feed, aliases = Feed(lab), Aliases()
    stream, live = TimedStream(feed, aliases), SystemMap(feed, aliases)
    stream.widget(), live.widget()  # with pages, batches are made, too
    cpu, began = psutil.Process().cpu_times(), time.monotonic()
    with helper(place_orders, lab.endpoints.client("order"), rate, seconds, 1) as load:
        load.result(seconds + 60)
    spent = time.monotonic() - began
    now = psutil.Process().cpu_times()
    lab.check(wait_for_rest=30)
    events = sum(live.passed.values())
    stream.stop()
    live.stop()
    return {
        "arrived_ms": Latency.of(stream.arrived),
        "told_ms": Latency.of(stream.sent),
        "records_per_s": stream.count / spent,
        "passed_per_s": events / spent,
        "cpu": (now.user + now.system - cpu.user - cpu.system) / spent,
    }


def show(results: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    table = Table("drain", "watched", "not watched", "ratio", title="Orders per second while a backlog drains")
    for number, ratio in enumerate(results["ratios"]):
        figures = (results["orders_per_s"][variant][number] for variant in ("on", "off"))
        table.add_row(str(number + 1), *(f"{figure:.1f}" for figure in figures), f"{ratio:.2f}")
    console.print(table)
    console.print(f"watched by {', '.join(results['observers']) or 'no one'} (the services' metrics and spans besides)")
    console.print(f"being watched leaves {100 * results['ratio']:.0f}% of the throughput (90% at least)")
    console.print(f"and takes {results['more_memory_mb']:.0f} MB (350 at most)")
    views = Table("load", "", "n", "p50", "p95", "p99", "max", title="From an outbox row to the view (ms)")
    for name, view in results["views"].items():
        views.add_row(name, "the view has its record", *view["arrived_ms"].cells())
        views.add_row("", "the page is told", *view["told_ms"].cells())
    console.print(views)
    for name, view in results["views"].items():
        console.print(
            f"{name}: {view['records_per_s']:.0f} records/s, {view['passed_per_s']:.0f} arrows/s, "
            f"{100 * view['cpu']:.0f}% of a core in the kernel"
        )
    console.print("300 ms at most, p95")
