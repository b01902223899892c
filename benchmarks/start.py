"""The time that the lab needs to start, attach and reset, and the resources that it uses while it runs.

The reference is the startup of the bare relay until its first event, measured in the same run, right before each start
of the lab: four databases, broker and Connect with the same settings, and no services.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.bare import BareRelay, bare_relay
from benchmarks.order_load import run_load
from benchmarks.own_lab import NAME, own_lab
from labstack.backends.base import Backend
from labstack.backends.processes import process
from labstack.clients import http
from labstack.lab import Lab, access_of
from labstack.process_id import ProcessId
from labstack.progress import Progress, Stage
from labstack.waiting import poll_until

ATTACH = """
import json, sys, time
begin = time.perf_counter()
from pathlib import Path
from labstack import Lab
from labstack.config.paths import LabPaths
imported = time.perf_counter()
status = Lab(paths=LabPaths(Path(sys.argv[1]), Path(sys.argv[2]))).status(memory=False)
print(json.dumps([status.state, imported - begin, time.perf_counter() - imported]))
"""


def measure(*, quick: bool, console: Console) -> dict[str, Any]:
    """Start and stop the lab and the bare relay repeatedly, then measure the running lab.

    Parameters
    ----------
    quick : bool
        Run one short round with few orders, to check that the benchmark works; its figures mean nothing.
    console : Console
        Console for progress lines.
    """
    rounds, orders, idle = (1, 20, 2.0) if quick else (3, 1000, 30.0)
    starts: list[dict[str, Any]] = []
    with own_lab() as lab:
        for number in range(1, rounds + 1):
            for data in ("empty data folder", "stopped with data"):
                with bare_relay() as bare:
                    reference = _start_bare(bare, twice=data != "empty data folder")
                if data == "empty data folder":
                    lab.down(purge=True)
                seconds, stages = start_lab(lab)
                lab.down()
                starts.append(
                    {"from": data, "ready_s": seconds, "bare_first_event_s": reference, "stages": stages_of(stages)}
                )
                console.print(
                    f"round {number}, {data}: ready in {seconds:.2f} s, bare relay's first event in {reference:.2f} s"
                )
        start_lab(lab)
        running = _measure_running(lab, orders, idle, console)
    return {"quick": quick, "starts": starts, "ready": _summaries(starts), **running}


def _start_bare(bare: BareRelay, *, twice: bool) -> float:
    """Time a start of the bare relay; with `twice`, time the second start, which finds data."""
    if twice:
        bare.start()
        bare.stop()
    begin = time.perf_counter()
    bare.start()
    seconds = time.perf_counter() - begin
    bare.stop()
    return seconds


def start_lab(lab: Lab) -> tuple[float, list[Stage]]:
    """Start a lab; return the seconds until it was ready, and its stages."""
    seen: list[Progress] = []
    begin = time.perf_counter()
    lab.up(seen.append)
    return time.perf_counter() - begin, seen[-1].stages


def stages_of(stages: list[Stage]) -> list[dict[str, Any]]:
    """Return stages in the form that is written to JSON."""
    return [{"name": stage.name, "began_s": stage.began, "ended_s": stage.seconds} for stage in stages]


def _summaries(starts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    summaries = []
    for data in dict.fromkeys(start["from"] for start in starts):
        group = [start for start in starts if start["from"] == data]
        ready = statistics.median(start["ready_s"] for start in group)
        bare = statistics.median(start["bare_first_event_s"] for start in group)
        ratio = statistics.median(start["ready_s"] / start["bare_first_event_s"] for start in group)
        summaries.append(
            {"from": data, "starts": len(group), "ready_s": ready, "bare_first_event_s": bare, "ratio": ratio}
        )
    return summaries


def _measure_running(lab: Lab, orders: int, idle: float, console: Console) -> dict[str, Any]:
    fresh = _memory(lab)
    rate = 25.0
    result = run_load(lab.endpoints, rate, orders / rate)
    console.print(f"{len(result.accepted)} orders placed, {result.unfinished} of them not COMPLETED")
    attach = [_attach(lab) for _ in range(5)]
    commands = _commands(lab)
    after_orders = _memory(lab)
    cpu = _idle_cpu(access_of(lab).backend(), idle)
    resets = []
    for _ in range(1 if idle < 10 else 3):
        begin = time.perf_counter()
        lab.reset()
        resets.append(time.perf_counter() - begin)
    left = http.get(f"{lab.endpoints.client('order')}/orders", timeout=5).json()["items"]
    if left:
        raise RuntimeError(f"{len(left)} orders are still there after the reset")
    return {
        "orders": len(result.accepted),
        "unfinished": result.unfinished,
        "memory_fresh_bytes": fresh,
        "memory_after_orders_bytes": after_orders,
        "attach": [{"import_s": imported, "attach_s": attached} for imported, attached in attach],
        "commands": commands,
        "reset_s": resets,
        "idle_seconds": idle,
        "idle_cores": cpu,
    }


def _memory(lab: Lab) -> dict[str, int]:
    """Return the PSS of each component's process tree, in bytes."""
    return {name: component.rss_bytes or 0 for name, component in lab.status().components.items()}


def _attach(lab: Lab) -> tuple[float, float]:
    """Attach from a new Python process, as a notebook does; return the seconds of the import and `Lab().status()`."""
    command = [sys.executable, "-c", ATTACH, str(access_of(lab).paths.state), str(access_of(lab).paths.cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    state, imported, attached = json.loads(done.stdout)
    if state != "ready":
        raise RuntimeError(f"the lab was found {state}")
    return imported, attached


def _commands(lab: Lab, times: int = 5) -> dict[str, float]:
    """Return the median seconds of commands, of a notebook's first cell, and of imports that both need."""
    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(access_of(lab).paths.state.parents[1]),
        "LAB_NAME": NAME,
    }
    commands = {
        "lab --version": ["-m", "labstack.cli", "--version"],
        "lab status": ["-m", "labstack.cli", "status"],
        "first cell": ["-c", "from labkit import begin; begin('01')"],
        "imports of three clients": ["-c", "import confluent_kafka, httpx, psycopg"],
    }
    found: dict[str, list[float]] = {}
    for _ in range(times):
        for name, arguments in commands.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=True, timeout=60)
            found.setdefault(name, []).append(time.perf_counter() - begin)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def cpu_seconds(backend: Backend) -> dict[str, float]:
    """Return the CPU time that each component's process tree has used, in seconds."""
    used = {}
    for name in backend.required():
        pid = backend.inspect(name).pid
        family = process.tree(ProcessId.of(pid)) if pid else []
        used[name] = sum(sum(one.cpu_times()[:2]) for one in family if one.is_running())
    return used


def _idle_cpu(backend: Backend, seconds: float) -> dict[str, float]:
    """Return the number of cores that each component uses while idle."""
    poll_until(lambda: psutil.cpu_percent(0.2) < 150 or None, 5)
    before, begin = cpu_seconds(backend), time.perf_counter()
    time.sleep(seconds)
    passed = time.perf_counter() - begin
    after = cpu_seconds(backend)
    return {name: (after[name] - before[name]) / passed for name in before}


def show(results: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    table = Table("start from", "ready (s)", "bare relay (s)", "ratio (2 at most)", title="Start: medians")
    for row in results["ready"]:
        table.add_row(row["from"], f"{row['ready_s']:.2f}", f"{row['bare_first_event_s']:.2f}", f"{row['ratio']:.2f}")
    console.print(table)
    last = results["starts"][-1]
    table = Table("stage", "began (s)", "took (s)", title=f"Stages of the last start, {last['from']}")
    for stage in last["stages"]:
        table.add_row(stage["name"], f"{stage['began_s']:.2f}", f"{stage['ended_s'] - stage['began_s']:.2f}")
    console.print(table)
    table = Table("component", "fresh (MB)", f"after {results['orders']} orders (MB)", "idle (cores)", title="Cost")
    fresh, after, cpu = results["memory_fresh_bytes"], results["memory_after_orders_bytes"], results["idle_cores"]
    for name in after:
        table.add_row(name, f"{fresh[name] / 1e6:.0f}", f"{after[name] / 1e6:.0f}", f"{cpu[name]:.3f}")
    total = (sum(fresh.values()) / 1e6, sum(after.values()) / 1e6)
    table.add_row("in all", f"{total[0]:.0f}", f"{total[1]:.0f}", f"{sum(cpu.values()):.3f}", style="bold")
    console.print(table)
    attach = statistics.median(one["attach_s"] for one in results["attach"])
    imported = statistics.median(one["import_s"] for one in results["attach"])
    console.print(f"attach {attach:.2f} s, and {imported:.2f} s to import labstack")
    console.print("; ".join(f"{name} {seconds:.2f} s" for name, seconds in results["commands"].items()))
    console.print(f"reset {max(results['reset_s']):.2f} s at most")
