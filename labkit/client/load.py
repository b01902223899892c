"""Many orders, as from independent customers: each is sent when it is due, whether or not earlier ones are answered.

That is an *open loop*. In a closed loop the next order waits for the answer to the previous one, so the load slows down
together with the system that it measures, and hides the waiting. Count and duration are bounded: this is for a laptop.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx

from labkit.errors import KitError
from labservices.datasets import load_stream
from labstack.clients import http
from labstack.config.paths import DATASETS

STREAM = "load.csv"
"""Orders from ``datasets/streams`` that can all be completed."""

MAX_ORDERS = 400
MAX_PER_SECOND = 40.0
MAX_SECONDS = 90.0
CONNECTIONS = 32
"""The maximum number of concurrent requests."""


@dataclass(frozen=True)
class Placed:
    """One order that was sent; times in seconds since 1970.

    Attributes
    ----------
    due, sent, answered : float
        The times at which it was due, at which it was sent, and at which its answer had arrived.
    status : int
        The HTTP status; 0 if the connection broke.
    order_id : str
        Empty if the order was not accepted.
    """

    due: float
    sent: float
    answered: float
    status: int
    order_id: str

    @property
    def seconds(self) -> float:
        """The customer's waiting time, from the moment at which the order was due."""
        return self.answered - self.due


class Load:
    """The result of a load of orders.

    Parameters
    ----------
    placed : list of Placed
        In the order in which they were due.
    per_second : float
        The target rate, in orders per second.
    """

    def __init__(self, placed: list[Placed], per_second: float) -> None:
        self.placed = placed
        self.per_second = per_second

    @property
    def orders(self) -> list[str]:
        """The ids of the accepted orders."""
        return [one.order_id for one in self.placed if one.order_id]

    @property
    def statuses(self) -> dict[int, int]:
        """The number of orders by HTTP status."""
        return dict(sorted(Counter(one.status for one in self.placed).items()))

    def __repr__(self) -> str:
        answers = ", ".join(f"{number} × {status}" for status, number in self.statuses.items())
        return f"{len(self.placed)} orders, {self.per_second:g} a second: {answers}"


def place_orders(origin: str, count: int, per_second: float, *, evenly: bool = False, seed: int = 12) -> Load:
    """Place orders at their moments, and return the answers; see `Shop.load`.

    Raises
    ------
    KitError
        The load exceeds the limits for a laptop.
    """
    if not (0 < count <= MAX_ORDERS and 0 < per_second <= MAX_PER_SECOND and count / per_second <= MAX_SECONDS):
        raise KitError(
            f"{count} orders at {per_second:g} a second are too many, too quick, or take too long.",
            next_step=f"at most {MAX_ORDERS} orders, {MAX_PER_SECOND:g} a second, for {MAX_SECONDS:g} s",
        )
    bodies = _bodies()
    with (
        http.client(origin, timeout=20, limits=httpx.Limits(max_connections=None)) as client,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        begin = time.time()
        sending = []
        for number, moment in enumerate(moments(count, per_second, evenly=evenly, seed=seed)):
            time.sleep(max(0.0, begin + moment - time.time()))
            sending.append(pool.submit(_place, client, begin + moment, bodies[number % len(bodies)]))
        return Load([one.result() for one in sending], per_second)


def moments(count: int, per_second: float, *, evenly: bool, seed: int) -> list[float]:
    """Return when each order is due, in seconds from the start.

    Unless `evenly` is set, the moments are those of independent customers, a Poisson process. If the number of orders
    in a period is fixed, their moments are independent and uniformly distributed over the period.
    """
    if evenly:
        return [number / per_second for number in range(count)]
    chance = random.Random(seed)
    return sorted(chance.uniform(0, count / per_second) for _ in range(count))


def _place(client: httpx.Client, due: float, body: dict[str, Any]) -> Placed:
    sent, status, order_id = time.time(), 0, ""
    try:
        answer = client.post("/orders", json=body)
        status = answer.status_code
        if status == 201:
            order_id = answer.json()["order_id"]
    except httpx.HTTPError:
        pass
    return Placed(due, sent, time.time(), status, order_id)


@cache
def _bodies() -> list[dict[str, Any]]:
    return [
        {
            "customer_id": order.customer_id,
            "destination": order.destination,
            "items": [{"sku": line.sku, "quantity": line.quantity} for line in order.items],
        }
        for order in load_stream(DATASETS / "streams" / STREAM)
    ]
