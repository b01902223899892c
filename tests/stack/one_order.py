"""Single orders over HTTP, for tests that inspect their outcome."""

from __future__ import annotations

from typing import Any

import psycopg

from labstack import Lab
from labstack.clients import http
from labstack.waiting import wait_until
from tests.stack.orders import TERMINAL


def place_order(lab: Lab, customer: str = "ada", destination: str = "lisbon", sku: str = "earl-grey") -> str:
    """Place an order for two packs of a product, which the shop must accept, and return the order's ID."""
    body = {"customer_id": customer, "destination": destination, "items": [{"sku": sku, "quantity": 2}]}
    answer = http.request("POST", f"{lab.endpoints.client('order')}/orders", json=body, timeout=10)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["order_id"])


def extend_deadlines(lab: Lab) -> None:
    """Extend the deadline of all existing orders by an hour, so that a slow host cancels none."""
    with psycopg.connect(lab.endpoints.databases["order"], connect_timeout=5) as connection:
        connection.execute("UPDATE orders SET created_at = created_at + interval '1 hour'")


def cancel_order(lab: Lab, order_id: str) -> int:
    """Cancel an order and return the HTTP status."""
    return http.request("POST", f"{lab.endpoints.client('order')}/orders/{order_id}/cancel", timeout=10).status_code


def read_order(lab: Lab, order_id: str) -> dict[str, Any]:
    """Return an order as the order service reports it."""
    answer = http.get(f"{lab.endpoints.client('order')}/orders/{order_id}", timeout=10)
    answer.raise_for_status()
    order: dict[str, Any] = answer.json()
    return order


def wait_for_outcome(lab: Lab, order_id: str, timeout: float = 30) -> tuple[str, str | None]:
    """Wait until an order is terminal or the timeout has passed; return its status and its failure reason."""
    wait_until(lambda: read_order(lab, order_id)["status"] in TERMINAL, timeout, interval=0.05)
    order = read_order(lab, order_id)
    return order["status"], order["failure_reason"]


def read_payment(lab: Lab, order_id: str) -> dict[str, Any]:
    """Return the payment of an order, or an empty dictionary if there is none yet."""
    answer = http.get(f"{lab.endpoints.client('payment')}/payments", params={"order_id": order_id}, timeout=10)
    answer.raise_for_status()
    return next(iter(answer.json()["items"]), {})


def ledger_effects(lab: Lab, order_id: str) -> list[str]:
    """Return the effects of an order's ledger entries in chronological order."""
    return [entry["effect"] for entry in read_payment(lab, order_id).get("entries", [])]
