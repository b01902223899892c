"""The shop's books, calculated beside the referee: only from the HTTP APIs, and only with the orders' items."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from labstack import Lab
from labstack.clients import http

Json = dict[str, Any]
STEPS = {"payment": "/payments", "inventory": "/inventory/reservations", "shipping": "/shipping/shipments"}
ENTRIES = {"COMPLETED": [["capture"]], "CANCELLED": [[], ["capture", "refund"]]}
"""The ledger entries that an order may have, by its final status."""
END = {"payment": "COMPLETED", "inventory": "SHIPPED", "shipping": "DISPATCHED"}
"""The status of each step of a COMPLETED order."""


@dataclass(frozen=True)
class Books:
    """The products and accounts before the first order.

    Attributes
    ----------
    products, balances : dict
        Quantity on hand by product, and cents by customer.
    """

    products: dict[str, int]
    balances: dict[str, int]


def open_books(lab: Lab, customers: set[str]) -> Books:
    """Read the products, and the accounts of the customers who have one."""
    return Books(
        {p["sku"]: p["on_hand"] for p in _all(lab, "inventory", "/inventory/products")}, _balances(lab, customers)
    )


def book_differences(lab: Lab, before: Books, orders: dict[str, Json]) -> Iterator[str]:
    """Yield the differences, given the terminal orders: goods, money, and the single effect of each service."""
    completed = [order for order in orders.values() if order["status"] == "COMPLETED"]
    sold: Counter[str] = Counter()
    paid: Counter[str] = Counter()
    for order in completed:
        for line in order["items"]:
            sold[line["sku"]] += line["quantity"]
            paid[order["customer_id"]] += line["quantity"] * line["unit_price_cents"]
    for product in _all(lab, "inventory", "/inventory/products"):
        left = before.products[product["sku"]] - sold[product["sku"]]
        if (product["on_hand"], product["reserved"], product["shipped"]) != (left, 0, sold[product["sku"]]):
            yield f"{product['sku']}: {product}, and {sold[product['sku']]} were sold"
    for customer, balance in _balances(lab, set(before.balances)).items():
        if balance != before.balances[customer] - paid[customer]:
            yield f"{customer} has {balance} of {before.balances[customer]} cents, and paid {paid[customer]}"
    for service, path in STEPS.items():
        yield from _step_differences(service, list(_all(lab, service, path)), orders)


def _step_differences(service: str, rows: list[Json], orders: dict[str, Json]) -> Iterator[str]:
    """Yield the orders whose effect in a service is missing, doubled, or different from the order."""
    of_order: dict[str, list[Json]] = defaultdict(list)
    for row in rows:
        of_order[row["order_id"]].append(row)
    yield from (f"{service} has {one}, which the order service does not" for one in of_order.keys() - orders.keys())
    for order_id, order in orders.items():
        statuses = [row["status"] for row in of_order[order_id]]
        is_done = order["status"] == "COMPLETED"
        if len(statuses) > 1 or (statuses == [END[service]]) != is_done:
            yield f"{order_id} is {order['status']}, and {service} says {statuses}"
        if service == "payment":
            entries = [entry["effect"] for row in of_order[order_id] for entry in row["entries"]]
            if entries not in ENTRIES[order["status"]]:
                yield f"{order_id} is {order['status']}, and its entries are {entries}"


def _balances(lab: Lab, customers: set[str]) -> dict[str, int]:
    found = {}
    with http.client(lab.endpoints.client("payment"), timeout=10) as client:
        for customer in sorted(customers):
            answer = client.get(f"/payments/accounts/{customer}")
            if answer.status_code != 404:
                found[customer] = int(answer.raise_for_status().json()["balance_cents"])
    return found


def _all(lab: Lab, service: str, path: str) -> Iterator[Json]:
    """Yield every item of a collection."""
    cursor: str | None = None
    with http.client(lab.endpoints.client(service), timeout=10) as client:
        while True:
            page = client.get(path, params={"limit": 100, **({"cursor": cursor} if cursor else {})})
            yield from page.raise_for_status().json()["items"]
            cursor = page.json()["next_cursor"]
            if cursor is None:
                return
