"""Carry orders through a running lab and tell what happened on the way: `lab demo`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from labservices.datasets import StreamOrder, load_stream
from labstack import broker, http
from labstack.backend import Endpoints
from labstack.errors import DemoFailed, NotRunning
from labstack.paths import DATASETS
from labstack.waiting import wait_until

TERMINAL = ("COMPLETED", "CANCELLED")
LAST_EVENTS = ("OrderCompleted", "OrderCancelled")


@dataclass(frozen=True)
class Story:
    """One order and all that happened to it.

    Attributes
    ----------
    order : dict
        As ``GET /orders/{order_id}`` tells it at the end.
    history : list of dict
        Its status changes.
    events : list of (topic, type)
        The order's records in Kafka, in the order of their time.
    """

    order: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)


def orders_of_the_show() -> list[StreamOrder]:
    """Return the orders that the demo places: one for each way an order can end."""
    return load_stream(DATASETS / "streams" / "first-orders.csv")


def place(where: Endpoints, order: StreamOrder) -> dict[str, Any]:
    """Place one order and return the service's answer.

    Raises
    ------
    NotRunning, DemoFailed
        The order service can't be reached, or refuses the order.
    """
    body = {
        "customer_id": order.customer_id,
        "destination": order.destination,
        "items": [{"sku": line.sku, "quantity": line.quantity} for line in order.items],
    }
    try:
        answer = http.request("POST", f"{where.client('order')}/orders", json=body, timeout=10)
    except (httpx.HTTPError, KeyError) as error:
        raise NotRunning(f"The order service can't be reached ({error}).", next_step="run `lab up`") from error
    if answer.status_code != 201:
        raise DemoFailed(
            f"The order service answered {answer.status_code}: {answer.text[:300]}",
            next_step="see `lab logs order`",
        )
    created: dict[str, Any] = answer.json()
    return created


def follow(where: Endpoints, order_id: str, timeout: float = 30) -> dict[str, Any]:
    """Wait until an order has come to its end, and return it.

    Raises
    ------
    DemoFailed
        It did not within `timeout` seconds; tells its status.
    """
    url = f"{where.client('order')}/orders/{order_id}"

    def ended() -> dict[str, Any] | None:
        order: dict[str, Any] = http.get(url, timeout=5).json()
        return order if order["status"] in TERMINAL else None

    order = wait_until(ended, timeout)
    if not isinstance(order, dict):
        status = http.get(url, timeout=5).json()["status"]
        raise DemoFailed(
            f"Order {order_id} is still {status} after {timeout:.0f} s.",
            next_step="`lab status` tells which part is missing",
        )
    return order


def tell(where: Endpoints, order: dict[str, Any]) -> Story:
    """Collect an order's history and its records."""
    order_id = order["order_id"]
    answer = http.get(f"{where.client('order')}/orders/{order_id}/history", timeout=5)
    return Story(order, answer.json()["items"], _events(where, order_id))


def _events(where: Endpoints, order_id: str, timeout: float = 5) -> list[tuple[str, str]]:
    """Read the order's records, the one of its end included: its row is a moment ahead of it."""
    found: list[tuple[str, str]] = []

    def complete() -> bool:
        records = broker.read_all(where.kafka, [f"{service}.events" for service in where.services])
        found[:] = [(record.topic, record.type) for record in records if record.key == order_id]
        return any(type_ in LAST_EVENTS for _, type_ in found)

    wait_until(complete, timeout)
    return found


def show(where: Endpoints, watch: Callable[[StreamOrder, Story], None]) -> None:
    """Place every order of the show, follow each to its end, and hold it against what the data set expects.

    Raises
    ------
    DemoFailed
        An order ended otherwise.
    """
    for expected in orders_of_the_show():
        order = follow(where, place(where, expected)["order_id"])
        watch(expected, tell(where, order))
        seen = (order["status"], order["failure_reason"] or "")
        if seen != (expected.expected_status, expected.expected_reason or ""):
            raise DemoFailed(
                f"Order {order['order_id']} ended as {seen}, but the data set expects "
                f"{(expected.expected_status, expected.expected_reason)}.",
                next_step="`lab reset` brings stock and balances back to the start; then try again",
            )
