"""An open-loop load of orders: each order is sent when it is due, even if earlier orders are still unanswered.

A closed loop would slow down together with the measured system, and hide the waiting time (coordinated omission). So an
order's latency counts from the time at which it was due, and an order that could not be sent in time counts as late.
"""

from __future__ import annotations

import http.client
import json
import queue
import random
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from labservices.datasets import load_stream
from labstack.config.paths import DATASETS

CONNECTIONS = 48
"""Maximum number of concurrent requests: twice the number of the service's threads."""

RESPONSE_TIMEOUT = 20.0

MAX_IDLE = 2.0
"""Idle seconds after which a connection is reopened: a gateway or a server may close an idle connection, and a request
that is sent just then is lost."""


@dataclass(frozen=True)
class Sent:
    """One order that was sent; times are in seconds since 1970, on the clock that all processes of a machine share."""

    due: float
    sent: float
    answered: float
    status: int
    order_id: str


def place_orders(url: str, rate: float, seconds: float, seed: int = 1) -> list[Sent]:
    """Place orders from ``datasets/streams/load.csv`` at random times (a Poisson process), and return them.

    Parameters
    ----------
    url : str
        URL of the order service.
    rate : float
        Orders per second, on average.
    seconds : float
        How long to place orders.
    seed : int
        Seed of the random times.
    """
    bodies = _bodies()
    chance = random.Random(seed)
    work: queue.SimpleQueue[tuple[float, bytes] | None] = queue.SimpleQueue()
    sent: list[Sent] = []
    threads = [threading.Thread(target=_post, args=(url, work, sent), daemon=True) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    begin = time.time()
    due, number = begin, 0
    while (due := due + chance.expovariate(rate)) < begin + seconds:
        time.sleep(max(0.0, due - time.time()))
        work.put((due, bodies[number % len(bodies)]))
        number += 1
    for _ in threads:
        work.put(None)
    for thread in threads:
        thread.join(RESPONSE_TIMEOUT + 5)
    return sent


def _bodies() -> list[bytes]:
    return [
        json.dumps(
            {
                "customer_id": order.customer_id,
                "destination": order.destination,
                "items": [{"sku": line.sku, "quantity": line.quantity} for line in order.items],
            }
        ).encode()
        for order in load_stream(DATASETS / "streams" / "load.csv")
    ]


def _post(url: str, work: queue.SimpleQueue[tuple[float, bytes] | None], sent: list[Sent]) -> None:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=RESPONSE_TIMEOUT)
    used = 0.0
    while (job := work.get()) is not None:
        due, body = job
        sent_at = time.time()
        if sent_at - used > MAX_IDLE:
            connection.close()  # the request reopens it
        status, order_id = 0, ""
        try:
            connection.request("POST", "/orders", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            status = answer.status
            if status == 201:
                order_id = json.loads(content)["order_id"]
        except (OSError, http.client.HTTPException):
            connection.close()
        used = time.time()
        sent.append(Sent(due, sent_at, used, status, order_id))
    connection.close()
