"""All figures on one page, each with its reference, and a comparison with an earlier run.

It runs `start`, `relay` and `saga` in short forms, which takes a quarter of an hour. Absolute figures depend on the
machine. So each figure has a reference from the same run, and runs are compared by these ratios only.

`--record` appends the ratios to ``benchmarks/history.json``. The next runs show how much each ratio has changed since
the last entry.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import relay, saga, start
from benchmarks.figures import ROOT, Latency, machine

HISTORY = ROOT / "benchmarks" / "history.json"


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes
    ----------
    name, unit : str
        What is measured, and in which unit.
    value : float
        The measured value.
    target : float
        The value to reach.
    reference : str
        What the ratio refers to.
    by : float
        The reference's value, in the same unit.
    most : bool
        Whether the target is a maximum; otherwise it is a minimum.
    """

    name: str
    unit: str
    value: float
    target: float
    reference: str
    by: float
    most: bool = True

    @property
    def ratio(self) -> float:
        """The value divided by its reference; NaN without a reference."""
        return self.value / self.by if self.by else math.nan

    @property
    def reached(self) -> bool:
        """Whether the value reaches its target."""
        return self.value <= self.target if self.most else self.value >= self.target


def measure(*, quick: bool, console: Console) -> dict[str, Any]:
    """Run the three benchmarks, and derive the figures."""
    started = start.measure(quick=quick, console=console)
    relayed = relay.measure(quick=quick, console=console, rounds=1)
    ordered = saga.measure(quick=quick, console=console, consumers=(1,))
    return {
        "quick": quick,
        "figures": [vars(figure) for figure in figures(started, relayed, ordered)],
        "start": started,
        "relay": relayed,
        "saga": ordered,
    }


def figures(started: dict[str, Any], relayed: dict[str, Any], ordered: dict[str, Any]) -> list[Figure]:
    """Derive the table's rows from the results of `start`, `relay` and `saga`."""
    found = []
    for row, target in zip(started["ready"], (1.5, 1.4), strict=True):
        bare = row["bare_first_event_s"]
        found.append(Figure(f"ready, {row['from']}", "s", row["ready_s"], target * bare, "bare relay's event", bare))
    hop, stock, chain = relayed["lab_ms"]["all"], relayed["stock_ms"]["all"], ordered["five_hops_ms"]
    found += _latencies("commit → consumer", hop, (4, 9), "stock Debezium", stock)
    idle = started["idle_cores"]
    found += [
        Figure("Connect at rest", "cores", idle["connect"], 0.15, "the lab at rest", sum(idle.values())),
        Figure("the lab at rest", "cores", sum(idle.values()), 0.2, "one core", 1),
    ]
    (run,) = ordered["runs"]
    found += _latencies("order → COMPLETED", run["latency"]["until_record_consumed_ms"], (40, 75), "bare chain", chain)
    rate = run["sustained_orders_per_s"]
    cores = sum((run["cpu_of_proof_cores"] or {}).values())
    found.append(Figure("orders, COMPLETED within 5 s", "1/s", rate, 100, "cores of the lab", cores, most=False))
    memory = started["memory_after_orders_bytes"]
    java = memory["kafka"] + memory["connect"]
    found.append(Figure("memory after the orders", "MB", sum(memory.values()) / 1e6, 650, "Kafka, Connect", java / 1e6))
    imports = started["commands"]["imports of three clients"]
    found += [
        Figure(name, "s", seconds, target, "imports of clients", imports)
        for name, seconds, target in (
            ("lab reset", max(started["reset_s"]), 0.8),
            ("lab --version", started["commands"]["lab --version"], 0.3),
            ("lab status", started["commands"]["lab status"], 0.6),
            ("first cell of a notebook", started["commands"]["first cell"], 2),
        )
    ]
    return found


def _latencies(name: str, found: Latency, targets: tuple[float, float], reference: str, by: Latency) -> list[Figure]:
    return [
        Figure(f"{name}, p50", "ms", found.p50, targets[0], f"{reference}, p50", by.p50),
        Figure(f"{name}, p95", "ms", found.p95, targets[1], f"{reference}, p95", by.p95),
    ]


def show(results: dict[str, Any], console: Console) -> None:
    """Print the table, with the change of each ratio since the last recorded run."""
    last = _history()[-1:]
    before: dict[str, float] = last[0]["ratios"] if last else {}
    title = "Figures" + (f"; changes since {last[0]['commit']}" if last else "")
    table = Table("figure", "value", "target", "reference", "its value", "ratio", "change", title=title)
    for figure in (Figure(**row) for row in results["figures"]):
        sign = "≤" if figure.most else "≥"
        table.add_row(
            figure.name,
            f"{figure.value:.3g} {figure.unit}",
            f"{sign} {figure.target:.3g}{'' if figure.reached else ' (missed)'}",
            figure.reference,
            f"{figure.by:.3g}",
            f"{figure.ratio:.3g}",
            f"{figure.ratio / before[figure.name] - 1:+.0%}" if before.get(figure.name) else "",
        )
    console.print(table)


def record(results: dict[str, Any]) -> None:
    """Append the ratios of a run to the history."""
    ratios = {row["name"]: round(Figure(**row).ratio, 4) for row in results["figures"]}
    now = machine()
    entry = {"commit": now["commit"], "at": now["at"], "cpus": now["cpus"], "ratios": ratios}
    HISTORY.write_text(json.dumps([*_history(), entry], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _history() -> list[dict[str, Any]]:
    return list(json.loads(HISTORY.read_text(encoding="utf-8"))) if HISTORY.exists() else []
