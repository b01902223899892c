"""The cost of container mode compared with local mode: time to ready, and memory, in turn on the same machine.

It needs istiod (`lab install istiod`) and a Docker engine, which ``python -m tests.containers python -m benchmarks
modes`` provides.
"""

from __future__ import annotations

import os
import statistics
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.order_load import run_load
from benchmarks.own_lab import own_lab
from benchmarks.start import stages_of, start_lab
from labstack.backends.choice import Mode
from labstack.backends.docker.engine import engine
from labstack.lab import Lab, access_of

MODES: tuple[Mode, ...] = ("local", "containers")
FROM = ("empty data folder", "stopped with data")


def measure(*, quick: bool, console: Console) -> dict[str, Any]:
    """Start and stop a lab in each mode, in turn, and measure the memory of each after the same orders.

    Parameters
    ----------
    quick : bool
        Run one round with few orders, to check that the benchmark works; its figures mean nothing.
    tell : Console
        Console for progress lines.
    """
    rounds, orders = (1, 20) if quick else (3, 250)
    starts: list[dict[str, Any]] = []
    sizes: dict[Mode, dict[str, int]] = {}
    with ExitStack() as stack:
        # Both modes run the same programs: in container mode, istiod configures the gateway.
        stack.enter_context(patch.dict(os.environ, {"LAB_CONTROL_PLANE": "istiod"}))
        labs = {mode: stack.enter_context(own_lab(mode)) for mode in MODES}
        for lab in labs.values():
            # Java builds its class-data archives at its first shutdown.
            lab.up(lambda _: None)
            lab.down(purge=True)
        for number in range(1, rounds + 1):
            for begin in FROM:
                for mode, lab in labs.items():
                    seconds, stages = start_lab(lab)
                    console.print(f"round {number}, {begin}, {mode}: ready in {seconds:.2f} s")
                    starts.append({"mode": mode, "from": begin, "ready_s": seconds, "stages": stages_of(stages)})
                    if number == rounds and begin == FROM[-1]:
                        run_load(lab.endpoints, 25.0, orders / 25.0)
                        sizes[mode] = {name: _memory(lab, name) for name in access_of(lab).backend().required()}
                    lab.down(purge=begin == FROM[-1])
    total = {mode: sum(parts.values()) for mode, parts in sizes.items()}
    return {
        "quick": quick,
        "images": {name: os.environ.get(f"LAB_IMAGE_{name.upper()}", "official") for name in ("kafka", "connect")},
        "orders": orders,
        "starts": starts,
        "ready": [_summary(starts, begin) for begin in FROM],
        "memory_bytes": sizes,
        "memory_ratio": total["containers"] / total["local"],
    }


def _memory(lab: Lab, name: str) -> int:
    """Return the PSS of a component's processes in bytes, measured the same way in both modes."""
    component = access_of(lab).backend().inspect(name, memory=True)
    if component.container:  # its engine counts memory differently
        return _pss_in(engine().containers.get(component.container).id)
    return component.rss_bytes or 0


def _pss_in(container: str) -> int:
    """Return the PSS of all processes in a container's cgroup, in bytes."""
    total = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if container in Path(f"/proc/{process.pid}/cgroup").read_text():
                total += process.memory_full_info().pss
    return total


def _summary(starts: list[dict[str, Any]], begin: str) -> dict[str, Any]:
    seconds = {m: [s["ready_s"] for s in starts if (s["mode"], s["from"]) == (m, begin)] for m in MODES}
    pairs = zip(seconds["containers"], seconds["local"], strict=True)
    return {
        "from": begin,
        **{f"{mode}_ready_s": statistics.median(values) for mode, values in seconds.items()},
        "ratio": statistics.median(inside / outside for inside, outside in pairs),
    }


def show(results: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    console.print("images: " + ", ".join(f"{name} {image}" for name, image in results["images"].items()))
    table = Table("start from", "local (s)", "containers (s)", "ratio (2 at most)", title="Ready: medians")
    for row in results["ready"]:
        ready = (f"{row['local_ready_s']:.2f}", f"{row['containers_ready_s']:.2f}", f"{row['ratio']:.2f}")
        table.add_row(row["from"], *ready)
    console.print(table)
    last = [start for start in results["starts"] if start["mode"] == "containers"][-1]
    table = Table("stage", "began (s)", "took (s)", title=f"Stages of the last start in containers, {last['from']}")
    for stage in last["stages"]:
        table.add_row(stage["name"], f"{stage['began_s']:.2f}", f"{stage['ended_s'] - stage['began_s']:.2f}")
    console.print(table)
    sizes = results["memory_bytes"]
    table = Table("component", "local (MB)", "containers (MB)", title=f"Memory (PSS) after {results['orders']} orders")
    for name, size in sizes["local"].items():
        table.add_row(name, f"{size / 1e6:.0f}", f"{sizes['containers'][name] / 1e6:.0f}")
    total = [f"{sum(sizes[mode].values()) / 1e6:.0f}" for mode in ("local", "containers")]
    table.add_row("in all", *total, style="bold")
    console.print(table)
    console.print(f"containers take {results['memory_ratio']:.2f} of local mode's memory (1.15 at most)")
