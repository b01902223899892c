"""The cost of inbox and guards: orders per second with them and, in the same run, without.

Orders are placed while all consumers are paused. Then all consumers resume at once, and the benchmark measures the time
until the last order is COMPLETED. So the services are busy from start to finish, and placing orders is not measured.
Both variants alternate in one lab; "without" is the fault switches inbox-off and guards-off in every service.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from confluent_kafka import Message
from rich.console import Console
from rich.table import Table

from benchmarks.arrivals import record_arrivals, text_headers, wait_for_all
from benchmarks.helper import helper
from benchmarks.load import place_orders
from benchmarks.own_lab import own_lab
from benchmarks.saga import change_consumers
from labstack.lab import Lab

RATE = 100.0
"""Orders per second while they are placed."""


def measure(*, quick: bool, console: Console) -> dict[str, Any]:
    """Measure both variants in turn."""
    rounds, seconds = (1, 1.0) if quick else (5, 6.0)
    rates: dict[str, list[float]] = {"with": [], "without": []}
    with own_lab() as lab:
        lab.up()
        drain(lab, seconds)  # warm up code that is compiled while it runs
        for number in range(rounds):
            variants = ("with", "without") if number % 2 == 0 else ("without", "with")
            for variant in variants:
                lab.reset()
                for service in lab.endpoints.services if variant == "without" else ():
                    lab.faults.on(service, "inbox-off")
                    lab.faults.on(service, "guards-off")
                rates[variant].append(drain(lab, seconds))
                console.print(f"round {number + 1}, {variant} inbox and guards: {rates[variant][-1]:.1f} orders/s")
    ratios = [one / other for one, other in zip(rates["with"], rates["without"], strict=True)]
    return {"quick": quick, "orders_per_s": rates, "ratios": ratios, "ratio": median(ratios)}


def drain(lab: Lab, seconds: float, ready: Callable[[], object] = lambda: None) -> float:
    """Place orders while all consumers are paused, then resume them; return the orders per second after that.

    Parameters
    ----------
    lab : Lab
        A running lab.
    seconds : float
        How long to place orders.
    ready : callable, optional
        Called before the consumers resume.
    """
    completed: set[str] = set()

    def on_arrival(message: Message, at: float) -> None:
        if text_headers(message).get("ce_type") == "OrderCompleted":
            completed.add((message.key() or b"").decode())

    with record_arrivals(lab.endpoints.kafka, ["order.events"], on_arrival):
        change_consumers(lab, "pause")
        with helper(place_orders, lab.endpoints.client("order"), RATE, seconds, 1) as load:
            accepted = {one.order_id for one in load.result(seconds + 60) if one.status == 201}
        ready()
        began = time.monotonic()
        change_consumers(lab, "resume")
        if not wait_for_all(lambda: len(completed & accepted), len(accepted), 30):
            raise RuntimeError(f"{len(accepted - completed)} of {len(accepted)} orders were not COMPLETED")
        return len(accepted) / (time.monotonic() - began)


def show(results: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table(
        "round", "with inbox and guards", "without", "ratio", title="Orders per second while a backlog drains"
    )
    for number, ratio in enumerate(results["ratios"]):
        figures = (results["orders_per_s"][variant][number] for variant in ("with", "without"))
        table.add_row(str(number + 1), *(f"{figure:.1f}" for figure in figures), f"{ratio:.2f}")
    console.print(table)
    console.print(f"inbox and guards leave {100 * results['ratio']:.0f}% of the throughput (85% at least)")
