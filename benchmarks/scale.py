"""How the cost of the shop and the time of an order grow: a model's predictions, checked against measured points.

The parameters of the model (`scale_model.py`) come from a lab under low load. It then predicts, and the benchmark
measures on the same lab:

* the time until an order is COMPLETED, at higher rates,
* the orders per second while a backlog drains, with 1, 2 and 4 consumers of each service and 4 and 12 partitions, both
  as the services are and with a payment service that takes 0.2 s longer for each order.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import psutil
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Latency
from benchmarks.order_load import LoadResult, run_load
from benchmarks.own_lab import own_lab
from benchmarks.saga import change_consumers, lab_is_at_rest, more_consumers
from benchmarks.scale_model import Cost, Durations, Shop, consumer_limit, slowdown
from benchmarks.start import cpu_seconds
from labstack.clients import http, practice
from labstack.clients.broker import partitions as partitions_of
from labstack.lab import Lab, access_of

LOW, HIGH = (2.0, 5.0, 8.0), (15.0, 25.0)
"""Orders per second from which the model gets its parameters, and those for which it predicts."""

ACCEPTED = (5.0, 40.0)
"""Orders per second while no event is handled, to measure what it costs to accept an order."""

DELAY = 0.2
"""Seconds that the slow payment service takes longer for each order."""

FASTER = 4.0
"""How much faster than the prediction a backlog is placed."""

DRAINED = 0.8
"""The part of a backlog until which its drain is measured: until then, every consumer has events."""

LOADING = "load generator"
"""The name of the benchmark itself in the table of components: its load and its measurement."""

FEWEST = 20
"""Number of orders that a backlog has at least."""

Counts = dict[tuple[str, str, str], float]
"""By service, event type and upper bound: the number of durations up to it. The bound ``sum`` has their sum."""


def measure(*, quick: bool, console: Console) -> dict[str, Any]:
    """Measure the model's parameters, then the points that it predicts."""
    seconds = 4.0 if quick else 30.0
    cores = psutil.cpu_count() or 1
    with patch.dict(os.environ, LAB_ORDER_DEADLINE_SECONDS="3600"), own_lab() as lab:
        lab.up()
        run_load(lab.endpoints, 10, 2.0 if quick else 20.0)  # warm up code that is compiled while it runs
        before = histograms(lab)
        low = [loaded(lab, LOW[0], seconds)]
        counted = {key: value - before[key] for key, value in histograms(lab).items()}
        low += [loaded(lab, rate, seconds) for rate in LOW[1:]]
        costs = {name: Cost.fit([one.rate for one in low], [one.cores[name] for one in low]) for name in low[0].cores}
        total = Cost.sum(costs.values())
        shop = shop_of(low[0].result, counted, slowdown(total.busy(low[0].rate, cores), cores))
        accept = accepting(lab, seconds / 2)
        latency = [
            {
                "rate": one.result.rate,
                "measured_ms": Latency.of(one.result.until_record),
                "predicted_ms": predicted_latency(shop, one.result.rate, total, cores),
            }
            for one in [*low, *(loaded(lab, rate, seconds) for rate in HIGH)]
        ]
        # In a short run, the noise of `accept` may be larger than the whole cost.
        draining = Cost(total.idle, max(total.per_order - accept, total.per_order / 2))
        drained = drain_all(lab, shop, draining.limit(cores), quick=quick, console=console)
    return {
        "quick": quick,
        "cores": cores,
        "costs": {name: vars(cost) for name, cost in costs.items()},
        "accepting_s": accept,
        "answer_s": shop.answer,
        "relay_s": shop.relay.mean,
        "handle_s": {f"{service} {event}": found.mean for (service, event), found in shop.handle.items()},
        "limit_orders_per_s": total.limit(cores),
        "draining_limit_orders_per_s": draining.limit(cores),
        "latency": latency,
        "drained": drained,
    }


@dataclass(frozen=True)
class Load:
    """A load of orders and its cost.

    Attributes
    ----------
    result : LoadResult
        The orders.
    rate : float
        Orders per second that were accepted, over the time that was measured.
    cores : dict
        The cores that each component and the load generator used.
    """

    result: LoadResult
    rate: float
    cores: dict[str, float]


def loaded(lab: Lab, rate: float, seconds: float) -> Load:
    """Place orders at a rate, and measure their cost until all are COMPLETED."""
    backend = access_of(lab).backend()
    before, own = cpu_seconds(backend), own_seconds()
    result = run_load(lab.endpoints, rate, seconds)
    after = cpu_seconds(backend)
    used = {name: after[name] - before[name] for name in before} | {LOADING: own_seconds() - own}
    return Load(result, len(result.accepted) / result.took, {name: value / result.took for name, value in used.items()})


def own_seconds() -> float:
    """Return the processor time in seconds of this process and of its helpers that have ended."""
    return sum(psutil.Process().cpu_times()[:4])


def accepting(lab: Lab, seconds: float) -> float:
    """Return the core-seconds for accepting one order without handling it."""
    change_consumers(lab, "pause")
    try:
        loads = [loaded(lab, rate, seconds) for rate in ACCEPTED]
        return Cost.fit([one.rate for one in loads], [sum(one.cores.values()) for one in loads]).per_order
    finally:
        change_consumers(lab, "resume")
        lab_is_at_rest(lab)


def histograms(lab: Lab) -> Counts:
    """Return the durations of all events so far, from ``/metrics``; the type ``relay`` is the time until a handler."""
    found: Counts = {}
    for service, url in lab.endpoints.services.items():
        for family in text_string_to_metric_families(http.get(f"{url}/metrics").text):
            if family.name not in ("event_handling_seconds", "event_delivery_seconds"):
                continue
            for sample in family.samples:
                if not sample.name.endswith("_count"):
                    key = (service, sample.labels.get("type", "relay"), sample.labels.get("le", "sum"))
                    found[key] = found.get(key, 0.0) + sample.value
    return found


def shop_of(result: LoadResult, counted: Counts, slower: float) -> Shop:
    """Return the simulation's parameters from a load at a low rate, at which everything took `slower` times as long."""
    every = {(service, event) for service, event, _ in counted}
    handle = {key: found for key in every if key[1] != "relay" and (found := durations(counted, [key], slower))}
    relay = durations(counted, [key for key in every if key[1] == "relay"], slower)
    if relay is None:
        raise RuntimeError("no event was delivered")
    return Shop(statistics.median(result.until_answer) / slower, relay, handle)


def durations(counted: Counts, keys: Collection[tuple[str, str]], slower: float) -> Durations | None:
    """Return the durations of services and event types together; None if there was no event."""
    total = 0.0
    upto: dict[float, float] = {}
    for (service, event, bound), value in counted.items():
        if (service, event) in keys and bound == "sum":
            total += value
        elif (service, event) in keys:
            upto[float(bound)] = upto.get(float(bound), 0.0) + value
    bounds = sorted(upto)
    if not upto[math.inf]:
        return None
    counts = [upto[bound] - (upto[lower] if lower else 0.0) for lower, bound in pairwise([0.0, *bounds])]
    bounds[-1] = 2 * bounds[-2]  # instead of infinity
    return Durations(total / upto[math.inf] / slower, tuple(bounds), tuple(counts))


def predicted_latency(shop: Shop, rate: float, total: Cost, cores: int) -> Latency | None:
    """Return the predicted times until an order is COMPLETED; None if the processors don't suffice for the rate."""
    slower = slowdown(total.busy(rate, cores), cores)
    return Latency.of(shop.simulate(rate, 200, slower)) if math.isfinite(slower) else None


def drain_all(lab: Lab, shop: Shop, limit: float, *, quick: bool, console: Console) -> list[dict[str, Any]]:
    """Drain a backlog with each number of partitions and consumers, without and with the delay."""
    points = []
    for partitions in (4, 12):
        grow(lab, partitions)
        for delay in (0.0, DELAY):
            if delay:
                lab.faults.on("payment", "slow-handler", str(delay))
            for number in (1, 2) if quick else (1, 2, 4):
                seconds = shop.seconds()
                seconds["payment"] += delay
                predicted = min(limit, consumer_limit(seconds, number, partitions))
                with more_consumers(lab, number - 1):
                    measured = drain(lab, predicted, 4.0 if quick else 15.0)
                    lab_is_at_rest(lab)
                point: dict[str, Any] = {"partitions": partitions, "consumers": number, "delay_s": delay}
                points.append(point | {"predicted_orders_per_s": predicted, "measured_orders_per_s": measured})
                console.print(f"{point}: {measured or math.nan:.1f} orders/s, predicted {predicted:.1f}")
        lab.faults.off("payment")
    return points


def grow(lab: Lab, partitions: int) -> None:
    """Give each topic of events this number of partitions."""
    kafka = lab.endpoints.kafka
    topics = [service.events_topic for service in access_of(lab).services]
    if len(partitions_of(kafka, topics)) == partitions * len(topics):
        return
    for topic in topics:
        practice.add_partitions(kafka, topic, partitions)
    lab.restart("connect")  # its producer asks for new partitions every few minutes only
    run_load(lab.endpoints, LOW[-1], 10)  # warm it up


def drain(lab: Lab, predicted: float, seconds: float) -> float | None:
    """Place orders faster than the shop completes them; return how many it completes per second after that.

    Parameters
    ----------
    lab : Lab
        A running lab.
    predicted : float
        The orders per second that it is predicted to complete.
    seconds : float
        How long the backlog should last.
    """
    rate = FASTER * predicted
    result = run_load(lab.endpoints, rate, max(FEWEST, seconds * predicted) / rate)
    placed = max(one.answered for one in result.sent)
    times = sorted(result.record.values())
    end = times[int(DRAINED * (len(times) - 1))] if times else 0.0
    counted = [at for at in times if placed < at <= end]
    return len(counted) / (end - placed) if counted and not result.unfinished else None


def show(results: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    table = Table("component", "at rest (cores)", "per order (ms)", title="Processor time")
    for name, cost in sorted(results["costs"].items(), key=lambda one: -one[1]["per_order"]):
        table.add_row(name, f"{cost['idle']:.3f}", f"{1000 * cost['per_order']:.1f}")
    total = {key: sum(cost[key] for cost in results["costs"].values()) for key in ("idle", "per_order")}
    table.add_row("in all", f"{total['idle']:.3f}", f"{1000 * total['per_order']:.1f}", style="bold")
    console.print(table)
    console.print(f"of it, accepting an order: {1000 * results['accepting_s']:.1f} ms")
    limits = (results["limit_orders_per_s"], results["draining_limit_orders_per_s"])
    console.print(f"all {results['cores']} cores: {limits[0]:.0f} orders/s; {limits[1]:.0f} while a backlog drains")
    console.print(f"answer {1000 * results['answer_s']:.1f} ms, relay {1000 * results['relay_s']:.1f} ms")
    console.print(", ".join(f"{name} {1000 * value:.1f} ms" for name, value in sorted(results["handle_s"].items())))
    table = Table("orders/s", "p50", "predicted", "p95", "predicted", title="Order → COMPLETED in ms")
    for point in results["latency"]:
        seen, predicted = point["measured_ms"], point["predicted_ms"]
        values = [(getattr(seen, p), getattr(predicted, p) if predicted else math.inf) for p in ("p50", "p95")]
        table.add_row(f"{point['rate']:.0f}", *(f"{value:.0f}" for pair in values for value in pair))
    console.print(table)
    table = Table("partitions", "consumers", "payment takes longer (s)", "measured", "predicted", "ratio")
    table.title = "Orders per second while a backlog drains"
    for point in results["drained"]:
        measured, predicted = point["measured_orders_per_s"] or math.nan, point["predicted_orders_per_s"]
        parameters = (str(point[key]) for key in ("partitions", "consumers", "delay_s"))
        table.add_row(*parameters, f"{measured:.1f}", f"{predicted:.1f}", f"{measured / predicted:.2f}")
    console.print(table)
