"""What it costs to be watched, and how soon what happens is seen.

Off and on: the same lab is started with LAB_OBSERVABILITY off and auto, in turn, and drains backlogs of orders as in
`guards`. A start's figure is the median of its drains: on a shared machine two drains of one start differ by more than
what is sought. Its memory (PSS) is read after that. Grafana is not counted: it is a person's, not the lab's.

Seen: a map and a stream listen, as in a notebook, while orders are placed at a calm rate and at one that makes 200
events a second. What counts is the time from an outbox row's moment (``ce_time``, set in its transaction) until the
view has its record, and until the batch in which the page is told of it.
"""

from __future__ import annotations

import os
import time
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
from labkit.views.feed import Feed, Seen, States
from labkit.views.stream import EventStream
from labkit.views.system_map import SystemMap
from labstack.lab import Lab

SWITCH = "LAB_OBSERVABILITY"
RATES = {"calm": 4.0, "200 events/s": 28.0}
"""Orders per second; an order of the stream `load` makes about seven events: rows, and as many records."""


class Timed(EventStream):
    """A stream that notes when it has a record, and when a page would have been told."""

    def __init__(self, feed: Feed, aliases: Aliases) -> None:
        self.arrived: list[float] = []
        self.told: list[float] = []
        self._untold: list[float] = []
        super().__init__(feed, aliases)

    def take(self, seen: list[Seen], states: States | None) -> None:
        super().take(seen, states)
        now = time.time()
        for one in seen:
            made = one.record.headers.get("ce_time") if one.record else None
            if made:
                at = datetime.fromisoformat(made).timestamp()
                self.arrived.append(now - at)
                self._untold.append(at)

    def batch(self) -> dict[str, Any] | None:
        now = time.time()
        self.told += [now - at for at in self._untold]
        self._untold.clear()
        return super().batch()

    @property
    def pages(self) -> bool:
        """Whether a page shows it."""
        return self._page is not None


def measure(*, quick: bool, tell: Console) -> dict[str, Any]:
    """Measure both ways in turn, then the views."""
    rounds, drains, seconds = (1, 1, 1.0) if quick else (5, 3, 5.0)
    found: dict[str, list[float]] = {"on": [], "off": []}
    sizes: dict[str, list[float]] = {"on": [], "off": []}
    before = os.environ.get(SWITCH)
    try:
        with own_lab() as lab:
            for number in range(rounds):
                for way in ("on", "off") if number % 2 == 0 else ("off", "on"):
                    os.environ[SWITCH] = "auto" if way == "on" else "off"
                    lab.up()
                    drain(lab, seconds)  # warms up what is compiled as it is used
                    rates = [drain(lab, seconds) for _ in range(drains)]
                    found[way].append(median(rates))
                    sizes[way].append(_memory(lab) / 1e6)
                    told = f"{found[way][-1]:.1f} orders/s ({', '.join(f'{rate:.1f}' for rate in rates)})"
                    tell.print(f"round {number + 1}, {way}: {told}, {sizes[way][-1]:.0f} MB")
                    lab.down()
            os.environ[SWITCH] = "auto"
            lab.up()
            observers = sorted(lab.endpoints.observers)
            views = {name: _views(lab, rate, 3.0 if quick else 20.0) for name, rate in RATES.items()}
    finally:
        os.environ.pop(SWITCH)
        if before is not None:
            os.environ[SWITCH] = before
    ratios = [on / off for on, off in zip(found["on"], found["off"], strict=True)]
    more = [on - off for on, off in zip(sizes["on"], sizes["off"], strict=True)]
    return {
        "quick": quick,
        "observers": observers,
        "orders_per_s": found,
        "ratios": ratios,
        "ratio": median(ratios),
        "memory_mb": sizes,
        "more_memory_mb": median(more),
        "views": views,
    }


def _memory(lab: Lab) -> int:
    """PSS of all components but Grafana, in bytes."""
    found = lab.status(memory=True).components.items()
    return sum(status.rss_bytes or 0 for name, status in found if name != "grafana")


def _views(lab: Lab, rate: float, seconds: float) -> dict[str, Any]:
    """Let a map and a stream listen while orders are placed, and return how long the records took to be seen."""
    feed, aliases = Feed(lab), Aliases()
    shown, live = Timed(feed, aliases), SystemMap(feed, aliases)
    shown.widget(), live.widget()  # their pages are made, so batches are too
    cpu, began = psutil.Process().cpu_times(), time.monotonic()
    with helper(place_orders, lab.endpoints.client("order"), rate, seconds, 1) as load:
        load.result(seconds + 60)
    spent = time.monotonic() - began
    now = psutil.Process().cpu_times()
    lab.check(wait_for_rest=30)
    events = sum(live.passed.values())
    shown.stop()
    live.stop()
    return {
        "arrived_ms": Latency.of(shown.arrived),
        "told_ms": Latency.of(shown.told),
        "records_per_s": shown.count / spent,
        "passed_per_s": events / spent,
        "cpu": (now.user + now.system - cpu.user - cpu.system) / spent,
    }


def show(results: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    table = Table("round", "watched", "not watched", "ratio", title="Orders per second while a backlog drains")
    for number, ratio in enumerate(results["ratios"]):
        figures = (results["orders_per_s"][way][number] for way in ("on", "off"))
        table.add_row(str(number + 1), *(f"{figure:.1f}" for figure in figures), f"{ratio:.2f}")
    console.print(table)
    console.print(f"watched by {', '.join(results['observers']) or 'nobody'} (the services' metrics and spans besides)")
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
