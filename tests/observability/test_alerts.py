"""Each alert fires on a real fault, and resolves when the fault is healed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from labkit import Session
from labkit.client.shop import Shop
from labkit.waiting import wait_until
from tests.suite.chance import short_sample

pytestmark = pytest.mark.needs("prometheus")


@dataclass(frozen=True)
class Fault:
    """A fault that makes an alert fire, and its healing."""

    inject: Callable[[Session], object]
    repair: Callable[[Session], object]


def place_failing_orders(session: Session) -> None:
    for _ in range(6):
        session.shop.place_order("nobody", "lisbon", {"earl-grey": 1})


def place_completing_orders(session: Session) -> None:
    for _ in range(12):
        session.shop.place_order("ada", "lisbon", {"earl-grey": 1})


def place_order_without_payment(session: Session) -> None:
    session.lab.stop("payment")
    session.shop.place_order("ada", "lisbon", {"earl-grey": 1})


def poison_payment(session: Session) -> None:
    session.lab.faults.on("payment", "poison-next")
    session.shop.place_order("ada", "lisbon", {"earl-grey": 1})


def replay_dead_letters(session: Session) -> None:
    session.lab.faults.off("payment")
    for letter in session.lab.dead_letters.all():
        session.lab.dead_letters.replay(letter.id)


def slow_down_payment(session: Session) -> None:
    session.lab.faults.on("payment", "slow-handler", "1")
    send_orders(session.shop, 80)


def send_orders(shop: Shop, times: int) -> None:
    body = {"customer_id": "ada", "destination": "lisbon", "items": [{"sku": "earl-grey", "quantity": 1}]}
    shop.traffic(times, "/orders", method="POST", body=body, at_once=2)


def start(name: str) -> Callable[[Session], object]:
    return lambda session: session.lab.start(name)


def stop(name: str) -> Callable[[Session], object]:
    return lambda session: session.lab.stop(name)


FAULTS = {
    "TargetDown": Fault(stop("shipping"), start("shipping")),
    "DebeziumNotConnected": Fault(stop("connect"), start("connect")),
    "SlotRetainsWal": Fault(stop("connect"), start("connect")),
    "SagaFailing": Fault(place_failing_orders, place_completing_orders),
    "OrdersStuck": Fault(place_order_without_payment, start("payment")),
    "DeadLetters": Fault(poison_payment, replay_dead_letters),
    "ConsumerLagGrowing": Fault(slow_down_payment, lambda session: session.lab.faults.off("payment")),
}


@contextmanager
def injected(fault: Fault, session: Session) -> Iterator[None]:
    try:
        fault.inject(session)
        yield
    finally:
        fault.repair(session)


WITH_STANDBYS = {"StandbyWithoutSlot"}
"""Alerts about databases with standbys, which only a cluster has."""


def test_every_alert_has_a_fault_and_none_fires_at_rest(session: Session) -> None:
    """There is a fault for each alert that can fire here, and no alert fires at rest."""
    assert set(session.look.metrics.prometheus.rules().alert) == set(FAULTS) | WITH_STANDBYS
    wait_until(lambda: session.look.metrics.alerts().empty, 60)


@pytest.mark.parametrize("alert", short_sample(FAULTS, 1))
def test_alert_fires_and_resolves(session: Session, alert: str) -> None:
    """The alert fires within 30 s of a real fault, and resolves within 60 s of its healing."""

    def firing() -> bool:
        alerts = session.look.metrics.alerts()
        return bool(((alerts.alert == alert) & (alerts.state == "firing")).any())

    wait_until(lambda: not firing(), 60)
    session.look.metrics.now()  # Prometheus sees an increase only of a counter that it has scraped before
    with injected(FAULTS[alert], session):
        wait_until(firing, 30, what=f"{alert} to fire")
    wait_until(lambda: not firing(), 60, what=f"{alert} to be resolved")
