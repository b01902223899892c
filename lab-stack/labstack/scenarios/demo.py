"""Send orders through a running lab and report the history of each: `lab demo`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from labservices.contract import OUTCOMES, TERMINAL, events_topic
from labservices.datasets import StreamOrder, load_stream
from labstack.backends.base import Endpoints
from labstack.clients import broker, http, transactions
from labstack.config.paths import DATASETS
from labstack.errors import DemoFailed, NotRunning
from labstack.waiting import poll_until


@dataclass(frozen=True)
class OrderStory:
    """One order, with its status changes and its events.

    Attributes
    ----------
    order : dict
        The order in its final status, as ``GET /orders/{order_id}`` returns it.
    history : list of dict
        Status changes of the order.
    events : list of (topic, type)
        Records of the order in Kafka, ordered by timestamp.
    """

    order: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)


def demo_orders() -> list[StreamOrder]:
    """Return the orders that the demo places: one for each possible outcome."""
    return load_stream(DATASETS / "streams" / "first-orders.csv")


def place(where: Endpoints, order: StreamOrder) -> dict[str, Any]:
    """Place one order and return the service's response.

    Raises
    ------
    NotRunning, DemoFailed
        The order service can't be reached, or rejects the order.
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
            f"The order service returned {answer.status_code}: {answer.text[:300]}",
            next_step="look at `lab logs order`",
        )
    created: dict[str, Any] = answer.json()
    return created


def follow(where: Endpoints, order_id: str, timeout: float = 30) -> dict[str, Any]:
    """Wait until an order reaches a final status, and return it.

    If another producer's open transaction blocks the services, wait until the broker has aborted it, too.

    Raises
    ------
    DemoFailed
        The order is not final after `timeout` seconds; the message contains its status.
    """
    url = f"{where.client('order')}/orders/{order_id}"

    def final_order() -> dict[str, Any] | None:
        order: dict[str, Any] = http.get(url, timeout=5).json()
        return order if order["status"] in TERMINAL else None

    began = time.monotonic()
    order = poll_until(final_order, timeout)
    topics = [events_topic(service) for service in where.services]
    if not isinstance(order, dict) and transactions.find_open(where.kafka, topics):
        order = poll_until(final_order, transactions.LIMIT)
    if not isinstance(order, dict):
        status = http.get(url, timeout=5).json()["status"]
        raise DemoFailed(
            f"Order {order_id} is still {status} after {time.monotonic() - began:.0f} s.",
            next_step="run `lab status` to see which component is down",
        )
    return order


def read_story(where: Endpoints, order: dict[str, Any]) -> OrderStory:
    """Collect the history and the records of an order."""
    order_id = order["order_id"]
    answer = http.get(f"{where.client('order')}/orders/{order_id}/history", timeout=5)
    return OrderStory(order, answer.json()["items"], _events(where, order_id))


def _events(where: Endpoints, order_id: str, timeout: float = 5) -> list[tuple[str, str]]:
    """Read the order's records, and wait for the final one, which follows the order's row after a moment."""
    found: list[tuple[str, str]] = []

    def complete() -> bool:
        records = broker.read_all(where.kafka, [events_topic(service) for service in where.services])
        found[:] = [(record.topic, record.type) for record in records if record.key == order_id]
        return any(type_ in OUTCOMES for _, type_ in found)

    poll_until(complete, timeout)
    return found


def run_demo(where: Endpoints, on_story: Callable[[StreamOrder, OrderStory], None] | None = None) -> list[OrderStory]:
    """Place every order of the demo, wait for its final status, and compare it with the data set's expectation.

    Parameters
    ----------
    where : Endpoints
        Addresses of the lab.
    on_story : callable, optional
        Called with each order of the data set, and with its story.

    Raises
    ------
    DemoFailed
        The outcome of an order differs from the expectation.
    """
    stories = []
    for expected in demo_orders():
        order = follow(where, place(where, expected)["order_id"])
        stories.append(read_story(where, order))
        if on_story:
            on_story(expected, stories[-1])
        outcome = (order["status"], order["failure_reason"] or "")
        if outcome != (expected.expected_status, expected.expected_reason or ""):
            raise DemoFailed(
                f"Order {order['order_id']} ended as {outcome}, but the data set expects "
                f"{(expected.expected_status, expected.expected_reason)}.",
                next_step="run `lab reset` to restore stock and balances, then run `lab demo` again",
            )
    return stories
