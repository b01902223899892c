"""Many orders, as customers bring them: each when it is due, whether or not those before it have been answered.

That is an *open loop*. A closed loop, in which the next order waits for the last one's answer, slows down together with
what it measures, and hides the waiting. Both count and time are bounded: this is for a laptop.
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
from labstack.paths import DATASETS

STREAM = "load.csv"
"""Orders that all can be carried out, from ``datasets/streams``."""

MOST_ORDERS = 400
MOST_PER_SECOND = 40.0
MOST_SECONDS = 90.0
CONNECTIONS = 32
"""So many requests can be under way at once."""


@dataclass(frozen=True)
class Placed:
    """One order that was sent; times in seconds since 1970.

    Attributes
    ----------
    due, sent, answered : float
        When it was to be sent, when it was, and when its answer had come.
    status : int
        The HTTP status; 0 where the connection broke.
    order_id : str
        Empty where the order was not taken.
    """

    due: float
    sent: float
    answered: float
    status: int
    order_id: str

    @property
    def seconds(self) -> float:
        """How long its customer has waited: from the moment when it was due."""
        return self.answered - self.due


class Load:
    """What became of a load of orders.

    Parameters
    ----------
    placed : list of Placed
        In the order in which they were due.
    per_second : float
        How many were to be sent in a second.
    """

    def __init__(self, placed: list[Placed], per_second: float) -> None:
        self.placed = placed
        self.per_second = per_second

    @property
    def orders(self) -> list[str]:
        """The ids of the orders that were taken."""
        return [one.order_id for one in self.placed if one.order_id]

    @property
    def statuses(self) -> dict[int, int]:
        """How many got which HTTP status."""
        return dict(sorted(Counter(one.status for one in self.placed).items()))

    def __repr__(self) -> str:
        answers = ", ".join(f"{number} × {status}" for status, number in self.statuses.items())
        return f"{len(self.placed)} orders, {self.per_second:g} a second: {answers}"


def place_orders(origin: str, count: int, per_second: float, *, evenly: bool = False, seed: int = 12) -> Load:
    """Place orders at their moments, and return what was answered; see `Shop.load`.

    Raises
    ------
    KitError
        It would be more than a laptop should have to bear.
    """
    if not (0 < count <= MOST_ORDERS and 0 < per_second <= MOST_PER_SECOND and count / per_second <= MOST_SECONDS):
        raise KitError(
            f"{count} orders at {per_second:g} a second are too many, too quick, or take too long.",
            next_step=f"at most {MOST_ORDERS} orders, {MOST_PER_SECOND:g} a second, for {MOST_SECONDS:g} s",
        )
    bodies = _bodies()
    with (
        httpx.Client(base_url=origin, timeout=20, trust_env=False, limits=httpx.Limits(max_connections=None)) as client,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        begin = time.time()
        sending = []
        for number, moment in enumerate(moments(count, per_second, evenly=evenly, seed=seed)):
            time.sleep(max(0.0, begin + moment - time.time()))
            sending.append(pool.submit(_place, client, begin + moment, bodies[number % len(bodies)]))
        return Load([one.result() for one in sending], per_second)


def moments(count: int, per_second: float, *, evenly: bool, seed: int) -> list[float]:
    """Return when each order is due, in seconds from the first moment on.

    Not evenly means: as customers who don't know of each other come. Given how many come within a time, the moments of
    such a Poisson process are spread over it by chance, each by itself.
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
