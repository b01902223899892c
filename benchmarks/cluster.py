"""Orders on a Kubernetes cluster beside a lab of local processes, on the same machine in the same run.

KUBECONFIG must point to a cluster on which the chart is installed (docs/kubernetes.md). ``python -m tests.cluster
FOLDER`` runs one on this machine. Both labs get the same loads, with 1, 2 and 4 consumers per service: more pods of the
Deployment on the cluster, more consumer processes in the local lab. The cluster keeps running while the local lab is
measured, so the processor time that the whole machine uses at rest is reported for both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Latency
from benchmarks.order_load import IN_TIME, LoadResult, run_load
from benchmarks.own_lab import own_lab
from benchmarks.saga import lab_is_at_rest, members, more_consumers, summary
from labkit.cluster import kubectl_of
from labstack.errors import BrokerUnavailable
from labstack.lab import Lab, access_of
from labstack.waiting import poll_until

LATENCY_RATE = 4.0
"""Orders per second at which latency is measured."""

RATES = (5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0)
"""Orders per second that the search tries, one after another."""

CONSUMERS = (1, 2, 4)


def measure(*, quick: bool, console: Console) -> dict[str, Any]:
    """Measure the cluster, then a local lab.

    Parameters
    ----------
    quick : bool
        Run short loads, to check that the benchmark works; its figures mean nothing.
    console : Console
        Console for progress lines.
    """
    runs = []
    with own_lab("kubernetes") as lab:
        lab.up()
        runs += _measure_lab(lab, "cluster", quick, console)
    with own_lab("local") as lab:
        lab.up()
        runs += _measure_lab(lab, "local", quick, console)
    return {"quick": quick, "rate": LATENCY_RATE, "in_time_s": IN_TIME, "runs": runs}


def _measure_lab(lab: Lab, where: str, quick: bool, console: Console) -> list[dict[str, Any]]:
    more = more_pods if where == "cluster" else more_consumers
    runs = []
    run_load(lab.endpoints, LATENCY_RATE, 3.0 if quick else 20.0)  # warm up code that is compiled while it runs
    for number in CONSUMERS[:2] if quick else CONSUMERS:
        lab.reset()
        with more(lab, number - 1):
            if not lab_is_at_rest(lab):
                raise RuntimeError("the services have not handled all events before the load")
            rest = cores_in_use(3 if quick else 15)
            console.print(f"{where}, {number} consumer(s) per service: {rest:.2f} cores at rest")
            latency, _ = _try(lab, LATENCY_RATE, 5 if quick else 45, console)
            tries = []
            for rate in RATES[:1] if quick else RATES:
                try:
                    tries.append(_try(lab, rate, 5 if quick else 30, console))
                except BrokerUnavailable as error:  # too many pods for this machine
                    console.print(f"  {rate:.0f}/s: {error}")
                    break
                if not tries[-1][0].holds:
                    break
            with suppress(BrokerUnavailable):
                lab_is_at_rest(lab, 300)
        held = [one for one in tries if one[0].holds]
        runs.append(
            {
                "where": where,
                "consumers": number,
                "rest_cores": rest,
                "latency": latency.to_json(),
                "held_orders_per_s": max((one.rate for one, _ in held), default=0.0),
                "cpu_ms_per_order": 1000 * _cpu_per_order(*held[-1], rest) if held else None,
                "tries": [one.to_json() for one, _ in tries],
            }
        )
    return runs


def _try(lab: Lab, rate: float, seconds: float, console: Console) -> tuple[LoadResult, float]:
    """Run one load; return its result, and the cores that the whole machine used until its last order was COMPLETED."""
    before = psutil.cpu_times()
    result = run_load(lab.endpoints, rate, seconds)
    cores = _busy_seconds(before, psutil.cpu_times()) / result.took
    console.print(f"  {rate:.0f}/s over {seconds:.0f} s, {cores:.2f} cores: {summary(result)}")
    return result, cores


def _cpu_per_order(result: LoadResult, cores: float, rest: float) -> float:
    """Return the processor seconds per order, beyond what the machine uses at rest."""
    return (cores - rest) * result.took / len(result.sent)


def cores_in_use(seconds: float) -> float:
    """Return how many cores the whole machine uses, over some seconds."""
    before = psutil.cpu_times()
    time.sleep(seconds)
    return _busy_seconds(before, psutil.cpu_times()) / seconds


def _busy_seconds(before: Any, after: Any) -> float:
    idle = ("idle", "iowait", "steal", "guest", "guest_nice")  # the guests' time is part of `user` and `nice`
    return sum(getattr(after, name) - getattr(before, name) for name in after._fields if name not in idle)


@contextmanager
def more_pods(lab: Lab, number: int) -> Iterator[None]:
    """Run this number of additional pods of each service during the block."""
    services = [service.name for service in access_of(lab).services]
    before = _replicas(lab, services)
    try:
        _scale(lab, {name: replicas + number for name, replicas in before.items()})
        yield
    finally:
        _scale(lab, before)


def _replicas(lab: Lab, services: Sequence[str]) -> dict[str, int]:
    found = kubectl_of(lab).items("deployments")
    return {one["metadata"]["name"]: one["spec"]["replicas"] for one in found if one["metadata"]["name"] in services}


def _scale(lab: Lab, replicas: dict[str, int]) -> None:
    kubectl = kubectl_of(lab)
    for name, number in replicas.items():
        kubectl.run("scale", "deployment", name, "--replicas", str(number))
    for name in replicas:
        kubectl.run("rollout", "status", "deployment", name, "--timeout", "300s", timeout=320)
    expected = [replicas[service.name] for service in access_of(lab).services]
    if not poll_until(lambda: members(lab) == expected, 120, interval=0.5):
        raise RuntimeError(f"the consumer groups have {members(lab)} members with partitions instead of {expected}")


def show(results: dict[str, Any], console: Console) -> None:
    """Print the table."""
    title = (
        f"Order → COMPLETED (row) at {results['rate']:.0f}/s, and the highest rate of the search at which every order"
        f" is COMPLETED within {results['in_time_s']:.0f} s"
    )
    columns = ("lab", "consumers", "p50 (ms)", "p95 (ms)", "orders/s", "CPU per order (ms)", "cores at rest")
    table = Table(*columns, title=title)
    for run in results["runs"]:
        latency: Latency = run["latency"]["until_row_completed_ms"]
        cost = f"{run['cpu_ms_per_order']:.0f}" if run["cpu_ms_per_order"] is not None else ""
        table.add_row(
            run["where"],
            str(run["consumers"]),
            f"{latency.p50:.0f}",
            f"{latency.p95:.0f}",
            f"{run['held_orders_per_s']:.0f}",
            cost,
            f"{run['rest_cores']:.2f}",
        )
    console.print(table)
