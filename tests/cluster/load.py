"""Place orders at a steady rate, repeat those that fail, and follow each to its end: a client that keeps every promise.

    python -m tests.cluster.load URL ORDERS RATE PATIENCE

It prints a JSON object: the status of each order by its id, the number of orders without an answer, of repeated
requests, and the seconds of the longest time in which no request succeeded.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import httpx

from labservices.datasets import load_stream
from labstack.config.paths import DATASETS

FINAL = ("COMPLETED", "CANCELLED")
PAUSE = 0.5
"""Seconds between two attempts."""


@dataclass
class Client:
    """A client of the gateway that repeats requests until they succeed.

    Attributes
    ----------
    http : Client
        The HTTP client.
    patience : float
        Seconds until a request, or an order, is given up.
    successes : list of float
        Times of the successful requests, in seconds since 1970.
    repeated : int
        Number of requests that failed and were repeated.
    """

    http: httpx.Client
    patience: float
    successes: list[float] = field(default_factory=list)
    repeated: int = 0

    def order(self, body: dict[str, object]) -> tuple[str, str]:
        """Place an order and follow it; return its id and last status, or empty texts without an answer."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        placed = self._until_answered("POST", "/orders", body, key)
        if placed is None:
            return "", ""
        order_id, status = placed["order_id"], placed["status"]
        deadline = time.monotonic() + self.patience
        while status not in FINAL and time.monotonic() < deadline:
            time.sleep(PAUSE)
            found = self._until_answered("GET", f"/orders/{order_id}")
            status = found["status"] if found else status
        return order_id, status

    def _until_answered(
        self, method: str, path: str, body: dict[str, object] | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, str] | None:
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            try:
                answer = self.http.request(method, path, json=body, headers=headers)
                if answer.is_success:
                    self.successes.append(time.time())
                    found: dict[str, str] = answer.json()
                    return found
            except httpx.HTTPError:
                pass
            self.repeated += 1
            time.sleep(PAUSE)
        return None


def main(url: str, orders: int, rate: float, patience: float) -> None:
    """Place the orders, and print what became of them."""
    stream = load_stream(DATASETS / "streams" / "load.csv")
    bodies: list[dict[str, object]] = [
        {
            "customer_id": one.customer_id,
            "destination": one.destination,
            "items": [{"sku": line.sku, "quantity": line.quantity} for line in one.items],
        }
        for one in stream
    ]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    with httpx.Client(base_url=url, timeout=10, limits=limits) as http, ThreadPoolExecutor(64) as pool:
        client = Client(http, patience)
        begin = time.monotonic()
        running = []
        for number in range(orders):
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
            running.append(pool.submit(client.order, bodies[number % len(bodies)]))
        ends = [one.result() for one in running]
    times = sorted(client.successes)
    print(
        json.dumps(
            {
                "orders": {order_id: status for order_id, status in ends if order_id},
                "unanswered": sum(not order_id for order_id, _ in ends),
                "repeated": client.repeated,
                "longest_gap_s": max((later - earlier for earlier, later in pairwise(times)), default=0.0),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
