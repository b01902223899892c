"""Sums of movements: the stock, the accounts, and what an order has paid and holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from labservices.contract import STEPS
from labstack.consistency.facts import Difference, Facts


def stock_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the products whose quantities are not the sums of their movements."""
    moved: Counter[tuple[str, str]] = Counter()
    openings: Counter[str] = Counter()
    for movement in facts.rows("inventory", "stock_movements"):
        sku = movement["sku"]
        moved[sku, movement["effect"]] += movement["quantity"]
        openings[sku] += movement["effect"] == "opening"
        if movement["event_id"] and not movement["order_id"]:
            yield sku, f"the movement {movement['effect']} has a cause, but no order"
    products = facts.rows("inventory", "products")
    for sku in {sku for sku, _ in moved} - {product["sku"] for product in products}:
        yield sku, "it has movements, but is not a product"
    for product in products:
        sku = product["sku"]
        received, shipped = moved[sku, "opening"] + moved[sku, "restock"], moved[sku, "ship"]
        held = moved[sku, "reserve"] - moved[sku, "release"] - shipped
        if (product["on_hand"] + product["shipped"], product["shipped"], product["reserved"]) != (
            received,
            shipped,
            held,
        ):
            yield sku, f"the movements add up to {received} received, {shipped} shipped, {held} reserved"
        if openings[sku] != 1:
            yield sku, f"it has {openings[sku]} opening stocks"


def balance_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the accounts whose balance is not the sum of their ledger entries."""
    balances: Counter[str] = Counter()
    openings: Counter[str] = Counter()
    for entry in facts.rows("payment", "ledger_entries"):
        customer = entry["customer_id"]
        balances[customer] += -entry["amount_cents"] if entry["effect"] == "capture" else entry["amount_cents"]
        openings[customer] += entry["effect"] == "opening"
        if not entry["order_id"] and (entry["event_id"] or entry["payment_id"]):
            yield customer, f"the entry {entry['effect']} has a cause or a payment, but no order"
    accounts = facts.rows("payment", "accounts")
    for customer in balances.keys() - {account["customer_id"] for account in accounts}:
        yield customer, "it has ledger entries, but no account"
    for account in accounts:
        customer = account["customer_id"]
        if account["balance_cents"] != balances[customer]:
            yield customer, f"the balance is {account['balance_cents']}, but its entries add up to {balances[customer]}"
        if openings[customer] != 1:
            yield customer, f"it has {openings[customer]} opening balances"


def money(facts: Facts) -> dict[str, Counter[str]]:
    """Return the captured and refunded amount of each order, in cents."""
    found: dict[str, Counter[str]] = {}
    for order_id, entries in facts.by_order("payment", "ledger_entries").items():
        found[order_id] = Counter()
        for entry in entries:
            found[order_id][entry["effect"]] += entry["amount_cents"]
    return found


def orders_with_goods(facts: Facts) -> set[str]:
    """Return the orders that hold goods: reserved, and neither released nor shipped."""
    held: Counter[tuple[str, str]] = Counter()
    for order_id, movements in facts.by_order("inventory", "stock_movements").items():
        for movement in movements:
            sign = 1 if movement["effect"] == STEPS[0].take else -1
            held[order_id, movement["sku"]] += sign * movement["quantity"]
    reserved = {row["order_id"] for row in facts.rows("inventory", "reservations") if row["status"] == STEPS[0].taken}
    return reserved | {order_id for (order_id, _), quantity in held.items() if quantity}
