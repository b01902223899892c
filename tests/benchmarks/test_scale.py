"""The model of `benchmarks scale` follows queueing theory, and reads its parameters from the services' histograms."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from benchmarks.scale import durations
from benchmarks.scale_model import ROUTES, Cost, Durations, Shop, consumer_limit, slowdown

EVENTS = [(service, event) for event, handlers in ROUTES.items() for service, _ in handlers]
AT_ONCE = Durations(0.0, (1.0,), (1.0,))


def shop_with(payment: float, consumers: int = 1, partitions: int = 4) -> Shop:
    """Return a shop in which only payment takes time, the same for each order."""
    constant = Durations(payment, (0.999 * payment, 1.001 * payment), (0.0, 1.0))
    handle = dict.fromkeys(EVENTS, AT_ONCE) | {("payment", "InventoryReserved"): constant}
    return Shop(0.0, AT_ONCE, handle, consumers, partitions)


@pytest.mark.parametrize("used", [0.2, 0.6, 0.8])
def test_simulated_orders_wait_as_in_an_mg1_queue(used: float) -> None:
    """With one busy consumer, the mean time is that of the formula of Pollaczek and Khinchine."""
    took = shop_with(0.2).simulate(used / 0.2, 4000)
    assert statistics.mean(took) == pytest.approx(0.2 + 0.2 * used / (2 * (1 - used)), rel=0.1)


def test_consumers_beyond_the_partitions_are_idle() -> None:
    """Eight consumers of four partitions handle as many orders as four do; three handle no more than two."""
    assert shop_with(0.2, 8).simulate(10, 30) == shop_with(0.2, 4).simulate(10, 30)
    assert [round(consumer_limit({"payment": 0.2}, number, 4)) for number in (1, 2, 3, 4, 8)] == [5, 10, 10, 20, 20]
    assert consumer_limit({"payment": 0.2, "order": 0.5}, 4, 12) == pytest.approx(8)


def test_work_takes_longer_on_busy_processors() -> None:
    """The factor is 1 / (1 - u) for one core, 1 / (1 - u²) for two, and infinite if all are always busy."""
    for used in (0.0, 0.3, 0.9):
        assert slowdown(used, 1) == pytest.approx(1 / (1 - used))
        assert slowdown(used, 2) == pytest.approx(1 / (1 - used**2))
    assert slowdown(0.9, 8) < slowdown(0.9, 2)
    assert slowdown(1.0, 2) == math.inf


def test_a_line_through_the_costs_gives_the_limit() -> None:
    """The limit is the rate at which cost at rest and cost of orders use all cores."""
    costs = [Cost.fit([2, 5, 8], [0.1 + 0.02 * rate for rate in (2, 5, 8)]), Cost(0.1, 0.02)]
    total = Cost.sum(costs)
    assert (total.idle, total.per_order) == (pytest.approx(0.2), pytest.approx(0.04))
    assert total.limit(2) == pytest.approx(45)
    assert total.busy(45, 2) == pytest.approx(1)


def test_drawn_durations_have_the_mean_and_the_shares_of_the_buckets() -> None:
    """Drawn durations have the histogram's mean, and as many of them lie in each bucket, up to one scale."""
    measured = Durations(0.02, (0.01, 0.025, 0.05), (1, 6, 3))
    chance = random.Random(1)
    drawn = [measured.draw(chance) for _ in range(20_000)]
    assert statistics.mean(drawn) == pytest.approx(0.02, rel=0.02)
    scale = 0.02 * 10 / (1 * 0.005 + 6 * 0.0175 + 3 * 0.0375)
    assert sum(value <= scale * 0.01 for value in drawn) / len(drawn) == pytest.approx(0.1, abs=0.01)


def test_durations_are_read_from_cumulative_buckets() -> None:
    """Histograms of two services are added; each bucket loses the counts of smaller ones."""
    counted = {
        ("order", "relay", "0.1"): 1.0,
        ("order", "relay", "0.5"): 3.0,
        ("order", "relay", "+Inf"): 4.0,
        ("order", "relay", "sum"): 1.5,
        ("payment", "relay", "0.1"): 2.0,
        ("payment", "relay", "0.5"): 2.0,
        ("payment", "relay", "+Inf"): 2.0,
        ("payment", "relay", "sum"): 0.1,
    }
    both = durations(counted, [("order", "relay"), ("payment", "relay")], slower=2)
    assert both is not None
    assert both.mean == pytest.approx(1.6 / 6 / 2)
    assert (both.bounds, both.counts) == ((0.1, 0.5, 1.0), (3.0, 2.0, 1.0))
    assert durations({("order", "x", "+Inf"): 0.0, ("order", "x", "sum"): 0.0}, [("order", "x")], slower=1) is None
