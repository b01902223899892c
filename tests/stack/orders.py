"""Orders for tests: a customer who retries, and the outcome of each order."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx

from labservices.datasets import StreamOrder, load_stream
from labstack import Lab
from labstack.clients import http
from labstack.config.paths import DATASETS
from labstack.waiting import poll_until, wait_until

TERMINAL = {"COMPLETED", "CANCELLED"}


def busy_morning() -> list[StreamOrder]:
    """Return the stream of 100 orders, of which 20 must fail."""
    return load_stream(DATASETS / "streams" / "busy-morning.csv")


@dataclass
class Customer:
    """Places a stream of orders from a separate thread, and retries each (with its key) until it is accepted."""

    lab: Lab
    orders: list[StreamOrder] = field(default_factory=busy_morning)
    placed: dict[str, StreamOrder] = field(default_factory=dict)
    refused: int = 0
    patience: float = 60
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> Customer:
        """Start placing orders."""
        self._thread = threading.Thread(target=self._place_all, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop placing orders."""
        self._stopping.set()
        self.wait()

    def wait(self) -> None:
        """Wait until every order was placed."""
        assert self._thread
        self._thread.join(self.patience + 10)
        assert not self._thread.is_alive()

    def _place_all(self) -> None:
        with http.client(self.lab.endpoints.client("order"), timeout=5) as client:
            for order in self.orders:
                if self._stopping.is_set():
                    return
                self._place(client, order)

    def _place(self, client: httpx.Client, order: StreamOrder) -> None:
        body = {
            "customer_id": order.customer_id,
            "destination": order.destination,
            "items": [{"sku": line.sku, "quantity": line.quantity} for line in order.items],
        }
        key = str(uuid.uuid4())

        def is_accepted() -> bool:
            try:
                answer = client.post("/orders", json=body, headers={"Idempotency-Key": key})
            except httpx.HTTPError:
                self.refused += 1
                return self._stopping.is_set()
            if answer.status_code not in (200, 201):
                self.refused += 1
                return self._stopping.is_set()
            self.placed[answer.json()["order_id"]] = order
            return True

        poll_until(is_accepted, self.patience)

    def unfinished(self) -> list[str]:
        """Return the IDs of the orders that are not terminal."""
        seen = all_orders(self.lab)
        return [order_id for order_id in self.placed if seen.get(order_id, {}).get("status") not in TERMINAL]

    def assert_all_ended_as_expected(self, timeout: float = 60) -> None:
        """Assert that each order was accepted once, and has the outcome that the stream expects."""
        assert len(self.placed) == len(self.orders), f"{self.refused} refusals"
        wait_until(lambda: not self.unfinished(), timeout, interval=0.2)
        seen = all_orders(self.lab)
        assert set(seen) == set(self.placed)
        ends = {order_id: (seen[order_id]["status"], seen[order_id]["failure_reason"]) for order_id in self.placed}
        wrong = {
            order_id: (ends[order_id], (expected.expected_status, expected.expected_reason))
            for order_id, expected in self.placed.items()
            if ends[order_id] != (expected.expected_status, expected.expected_reason or None)
        }
        assert wrong == {}


def all_orders(lab: Lab) -> dict[str, dict[str, Any]]:
    """Return every order that the order service knows, by ID."""
    found: dict[str, dict[str, Any]] = {}
    cursor: str | None = None
    with http.client(lab.endpoints.client("order"), timeout=10) as client:
        while True:
            page = client.get("/orders", params={"limit": 100, **({"cursor": cursor} if cursor else {})})
            page.raise_for_status()
            found |= {order["order_id"]: order for order in page.json()["items"]}
            cursor = page.json()["next_cursor"]
            if cursor is None:
                return found
