"""A model of the shop's cost and of the time that an order takes, to predict what no machine here can run.

The cost is linear: a component uses `idle` cores and `per_order` core-seconds for each order. The time is simulated:
an order passes the same queues as in the shop, one for each consumer, which handle events in the order of arrival. Both
take their parameters from a lab under low load, and predict other rates, numbers of consumers and of partitions.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import simpy

ROUTES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "OrderCreated": (("inventory", "InventoryReserved"),),
    "InventoryReserved": (("payment", "PaymentCompleted"), ("order", "")),
    "PaymentCompleted": (("shipping", "ShipmentScheduled"), ("order", "")),
    "ShipmentScheduled": (("order", "OrderCompleted"),),
    "OrderCompleted": (("inventory", ""), ("shipping", "")),
}
"""For each event of an order that succeeds: the services that handle it, each with the event that it then publishes."""


@dataclass(frozen=True)
class Cost:
    """The processor time of one component.

    Attributes
    ----------
    idle : float
        Cores in use without orders.
    per_order : float
        Core-seconds for each order.
    """

    idle: float
    per_order: float

    @classmethod
    def fit(cls, rates: Sequence[float], cores: Sequence[float]) -> Cost:
        """Return the line through measured points by least squares.

        Parameters
        ----------
        rates : sequence of float
            Orders per second; two different ones at least.
        cores : sequence of float
            The cores that the component used at each rate.
        """
        per_order, idle = np.polyfit(rates, cores, 1)
        return cls(max(0.0, float(idle)), max(0.0, float(per_order)))

    @classmethod
    def sum(cls, costs: Iterable[Cost]) -> Cost:
        """Return the cost of several components together."""
        costs = list(costs)
        return cls(sum(cost.idle for cost in costs), sum(cost.per_order for cost in costs))

    def busy(self, rate: float, cores: int) -> float:
        """Return the share of the cores' time in use at a rate."""
        return (self.idle + rate * self.per_order) / cores

    def limit(self, cores: int) -> float:
        """Return the orders per second at which all cores are busy."""
        return max(0.0, cores - self.idle) / self.per_order


def slowdown(busy: float, cores: int) -> float:
    """Return the factor by which work takes longer on busy processors; infinite if they are always busy.

    This is the mean time in an M/M/c queue divided by the time of the work itself, `1 + C(c, cu) / (c (1 - u))` with
    Erlang's formula C (Kleinrock, Queueing Systems I, section 3.5). For two cores it is `1 / (1 - u²)`.

    Parameters
    ----------
    busy : float
        Share of the cores' time in use, `u`.
    cores : int
        Number of cores, `c`.
    """
    if busy >= 1:
        return math.inf
    offered = cores * busy
    below = sum(offered**number / math.factorial(number) for number in range(cores))
    last = offered**cores / math.factorial(cores) / (1 - busy)
    return 1 + last / (below + last) / (cores * (1 - busy))


def consumer_limit(seconds: Mapping[str, float], consumers: int, partitions: int) -> float:
    """Return the orders per second that the busiest consumer of the busiest service can handle.

    Parameters
    ----------
    seconds : mapping
        By service: the seconds that one consumer needs for all events of one order.
    consumers : int
        Consumers of each service. Only one of them reads a partition, so those beyond the partitions are idle.
    partitions : int
        Partitions of each topic. A consumer has up to `ceil(partitions / consumers)` of them.
    """
    most = math.ceil(partitions / min(consumers, partitions))
    return partitions / most / max(seconds.values())


@dataclass(frozen=True)
class Durations:
    """Measured durations, as a histogram of Prometheus has them.

    Attributes
    ----------
    mean : float
        Their mean in seconds.
    bounds : tuple of float
        The upper bounds of the buckets in seconds.
    counts : tuple of float
        The number of durations in each bucket, without those of smaller buckets.
    """

    mean: float
    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    def draw(self, chance: random.Random) -> float:
        """Return a random duration: a bucket by its count, and any value in it; all together have the mean."""
        sums = list(accumulate(self.counts))
        place = bisect_left(sums, chance.random() * sums[-1])
        lower = (0.0, *self.bounds)[place]
        return self._scale * (lower + (self.bounds[place] - lower) * chance.random())

    @property
    def _scale(self) -> float:
        middles = [(lower + upper) / 2 for lower, upper in zip((0.0, *self.bounds), self.bounds, strict=False)]
        total = sum(middle * count for middle, count in zip(middles, self.counts, strict=True))
        return self.mean * sum(self.counts) / total


@dataclass(frozen=True)
class Shop:
    """The parameters of the simulation.

    Attributes
    ----------
    answer : float
        Seconds from a request until its order is committed.
    relay : Durations
        From the row of an event to its consumer.
    handle : mapping
        By service and event type: the durations of the event's transaction.
    consumers, partitions : int
        Consumers of each service, and partitions of each topic.
    """

    answer: float
    relay: Durations
    handle: Mapping[tuple[str, str], Durations]
    consumers: int = 1
    partitions: int = 4

    def seconds(self) -> dict[str, float]:
        """Return by service the mean seconds that a consumer needs for all events of one order."""
        total = dict.fromkeys((service for service, _ in self.handle), 0.0)
        for (service, _), durations in self.handle.items():
            total[service] += durations.mean
        return total

    def simulate(self, rate: float, seconds: float, slower: float = 1.0, seed: int = 1) -> list[float]:
        """Return the seconds from each request to the arrival of its OrderCompleted record.

        Parameters
        ----------
        rate : float
            Orders per second, at random times (a Poisson process).
        seconds : float
            How long orders are placed.
        slower : float
            The factor by which everything takes longer.
        seed : int
            Seed of the random times and partitions.
        """
        chance = random.Random(seed)
        world = simpy.Environment()
        active = min(self.consumers, self.partitions)
        services = {service for handlers in ROUTES.values() for service, _ in handlers}
        queues = {service: [simpy.Resource(world) for _ in range(active)] for service in services}
        took: list[float] = []

        def deliver(event: str, partition: int, placed: float) -> Any:
            yield world.timeout(self.relay.draw(chance) * slower)
            if event == "OrderCompleted":
                took.append(world.now - placed)
            for service, then in ROUTES[event]:
                world.process(handle(service, event, then, partition, placed))

        def handle(service: str, event: str, then: str, partition: int, placed: float) -> Any:
            with queues[service][partition % active].request() as turn:
                yield turn
                yield world.timeout(self.handle[service, event].draw(chance) * slower)
            if then:
                world.process(deliver(then, partition, placed))

        def place_orders() -> Any:
            while True:
                yield world.timeout(chance.expovariate(rate))
                if world.now >= seconds:
                    break
                world.process(place(chance.randrange(self.partitions), world.now))

        def place(partition: int, placed: float) -> Any:
            yield world.timeout(self.answer * slower)
            world.process(deliver("OrderCreated", partition, placed))

        world.process(place_orders())
        world.run()
        return took
