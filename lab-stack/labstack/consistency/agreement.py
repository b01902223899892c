"""One order in all services: the statuses of its steps, its data in their rows, and the payloads of its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from labservices.contract import CANCELLATIONS, STEPS
from labstack.consistency.evidence import Row
from labstack.consistency.facts import Difference, EventFacts, Facts, quantities
from labstack.consistency.steps import FAILED, TOMBSTONE

COMPLETED = tuple(step.completed for step in STEPS)
REFUSED_AT = [
    (*(step.undone for step in STEPS[:n]), FAILED, *(TOMBSTONE for _ in STEPS[n + 1 :])) for n in range(len(STEPS))
]
"""The statuses of the steps if one of them failed: those before it are undone, those after it were never requested."""
ENDS = {"COMPLETED": [COMPLETED], "CANCELLED": [*REFUSED_AT, tuple(step.undone for step in STEPS)]}
"""The possible statuses of the three steps of a terminal order."""
UNIQUE = {
    "order": {"orders": "order_id", "catalogue": "sku"},
    "inventory": {"products": "sku"},
    "payment": {"accounts": "customer_id"},
    "shipping": {"destinations": "destination"},
}
"""The column whose values must be unique, by table; other checks count the rows of the other tables."""
DATA = ("order_id", "customer_id", "destination", "total_cents", "currency")


def end_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the terminal orders whose steps have not ended as the order has."""
    for order in facts.ended:
        rows = [facts.by_order(step.service, step.table).get(order["order_id"], []) for step in STEPS]
        statuses = tuple(row["status"] for its in rows for row in its)
        if statuses not in ENDS[order["status"]]:
            seen = [f"{step.table} {_statuses(its)}" for step, its in zip(STEPS, rows, strict=True)]
            yield order["order_id"], f"the order is {order['status']}, but its steps are: {', '.join(seen)}"


def _statuses(rows: list[Row]) -> str:
    return "/".join(row["status"] for row in rows) or "without a row"


def copy_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the orders whose data in inventory or shipping differ from those in the order service."""
    carriers = {row["destination"]: row["carrier"] for row in facts.rows("shipping", "destinations")}
    for order_id, order in facts.orders.items():
        if order_id in facts.held:
            continue
        for row in facts.by_order("inventory", "reservations").get(order_id, ()):
            if quantities(row["lines"]) != quantities(order["items"]):
                yield order_id, "inventory's reservation has other goods than the order"
        for row in facts.by_order("shipping", "shipments").get(order_id, ()):
            if row["destination"] != order["destination"]:
                yield order_id, f"the shipment goes to {row['destination']}, the order to {order['destination']}"
            if row["carrier"] and row["carrier"] != carriers.get(row["destination"]):
                yield order_id, f"the carrier {row['carrier']} does not serve {row['destination']}"


def double_rows(facts: Facts) -> Iterator[Difference]:
    """Yield the orders, products, accounts and destinations that exist twice."""
    for service, tables in UNIQUE.items():
        for table, column in tables.items():
            for name, times in Counter(row[column] for row in facts.rows(service, table)).items():
                if times > 1:
                    yield name, f"{times} rows in {table}"


def amount_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the orders whose amounts differ between order and payment."""
    payments, entries = facts.by_order("payment", "payments"), facts.by_order("payment", "ledger_entries")
    for order_id, order in facts.orders.items():
        if order_id in facts.held:
            continue
        sum_of_items = sum(line.get("quantity", 0) * line.get("unit_price_cents", 0) for line in order["items"])
        if order["total_cents"] != sum_of_items:
            yield order_id, f"the order's total is {order['total_cents']}, but its items cost {sum_of_items}"
        copies = [("amount_cents", "total_cents"), ("currency", "currency"), ("customer_id", "customer_id")]
        for row in payments.get(order_id, ()):
            for column, original in copies:
                if row[column] != order[original]:
                    yield order_id, f"the payment's {column} is {row[column]}, the order's {original} {order[original]}"
        for entry in entries.get(order_id, ()):
            if entry["amount_cents"] != order["total_cents"]:
                yield order_id, f"the {entry['effect']} is {entry['amount_cents']}, the order {order['total_cents']}"
            if entry["customer_id"] != order["customer_id"]:
                yield order_id, f"the {entry['effect']} is booked for {entry['customer_id']}"


def price_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the products whose data differ between order and inventory, and the amounts in another currency."""
    products = {row["sku"]: row for row in facts.rows("inventory", "products")}
    catalogue = {row["sku"]: row for row in facts.rows("order", "catalogue")}
    for sku in sorted(products.keys() | catalogue.keys()):
        ours, theirs = catalogue.get(sku, {}), products.get(sku, {})
        for column in ("sku", "name", "unit_price_cents", "currency"):
            if ours.get(column) != theirs.get(column):
                yield sku, f"the {column} is {ours.get(column)} in order, but {theirs.get(column)} in inventory"
    for order_id, order in facts.orders.items():
        if {catalogue.get(line.get("sku"), {}).get("currency") for line in order["items"]} != {order["currency"]}:
            yield order_id, f"the order is in {order['currency']}, but its products are not"
    for account in facts.rows("payment", "accounts"):
        if account["currency"] not in {row["currency"] for row in catalogue.values()}:
            yield account["customer_id"], f"the account is in {account['currency']}, but no product is"


def payload_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the orders with an event whose payload has other data than the order's row."""
    for event in facts.events.values():
        order = facts.orders.get(event.order_id)
        if order is not None and event.order_id not in facts.held:
            for name in _wrong_fields(facts, event, order):
                yield event.order_id, f"{event.type} has another {name} than the order"


def _wrong_fields(facts: Facts, event: EventFacts, order: Row) -> Iterator[str]:
    payload = event.payload
    yield from (name for name in DATA if payload.get(name) != order[name])
    if _lines(payload) != _lines(order):
        yield "items"
    if event.service == "payment" and payload.get("amount_cents", order["total_cents"]) != order["total_cents"]:
        yield "amount_cents"
    if event.type == "OrderCancelled" and event.reason != order["failure_reason"]:
        yield "reason"
    if event.type == STEPS[0].failure and not _explains(payload.get("shortages", []), facts, order):
        yield "shortage"


def _explains(shortages: list[Mapping[str, Any]], facts: Facts, order: Row) -> bool:
    """Return whether the reported shortages match the order's items, or the order was cancelled."""
    wanted = quantities(order["items"])
    is_cancelled = any(event.type in CANCELLATIONS for event in facts.events_of[order["order_id"]])
    return bool(shortages or is_cancelled) and all(
        one.get("available", 0) < one.get("requested", 0) == wanted.get(one.get("sku", "")) for one in shortages
    )


def _lines(order: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [
        tuple(line.get(name) for name in ("sku", "quantity", "unit_price_cents")) for line in order.get("items", ())
    ]
