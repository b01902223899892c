"""The invariants: one function each, from the evidence to a finding.

The first five always hold, each within one database and one snapshot. The others hold at rest: no order is in flight,
and no consumer lags.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from labservices.contract import ACTS_ON, TERMINAL
from labstack.consistency.evidence import Evidence


@dataclass(frozen=True)
class Finding:
    """The result of an invariant's function."""

    figures: dict[str, int]
    offenders: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """The verdict on one invariant.

    Attributes
    ----------
    name : str
        Name of the invariant.
    statement : str
        The condition that must hold.
    holds : bool or None
        None if the invariant holds only at rest, and the lab is not at rest.
    figures : dict
        Counts and sums, by name.
    offenders : list of str
        The orders, products or accounts that violate it.
    notes : list of str
        Further information, such as which dead letter holds which order.
    """

    name: str
    statement: str
    holds: bool | None
    figures: dict[str, int]
    offenders: list[str]
    notes: list[str] = field(default_factory=list)


def stock_is_within_bounds(seen: Evidence) -> Finding:
    """For each product, 0 <= reserved <= on_hand."""
    products = seen.rows("inventory", "products")
    bad = [p["sku"] for p in products if not 0 <= p["reserved"] <= p["on_hand"]]
    return Finding({"products": len(products), "reserved": sum(p["reserved"] for p in products)}, bad)


def stock_adds_up(seen: Evidence) -> Finding:
    """For each product, on_hand + shipped = opening stock + restocks; the movements add up to reserved and shipped."""
    products = seen.rows("inventory", "products")
    bad = [
        p["sku"]
        for p in products
        if p["on_hand"] + p["shipped"] != p["taken_in"]
        or p["shipped"] != p["sent_out"]
        or p["reserved"] != p["promised"]
    ]
    return Finding({"products": len(products), "shipped": sum(p["shipped"] for p in products)}, bad)


def refunds_are_within_captures(seen: Evidence) -> Finding:
    """For each order, the refunded amount is at most the captured amount."""
    money = seen.rows("payment", "money")
    bad = [m["order_id"] for m in money if m["refunded"] > m["captured"]]
    figures = {"captured": sum(m["captured"] for m in money), "refunded": sum(m["refunded"] for m in money)}
    return Finding(figures, bad)


def balances_add_up(seen: Evidence) -> Finding:
    """For each account, balance = opening balance + deposits - captures + refunds."""
    accounts = seen.rows("payment", "accounts")
    bad = [a["customer_id"] for a in accounts if a["balance_cents"] != a["ledger_cents"]]
    return Finding({"accounts": len(accounts)}, bad)


def no_balance_is_below_zero(seen: Evidence) -> Finding:
    """No account's balance is below zero."""
    accounts = seen.rows("payment", "accounts")
    bad = [a["customer_id"] for a in accounts if a["balance_cents"] < 0]
    return Finding(
        {"accounts": len(accounts), "lowest_cents": min((a["balance_cents"] for a in accounts), default=0)}, bad
    )


def orders_are_terminal(seen: Evidence) -> Finding:
    """Every order is COMPLETED or CANCELLED, or held by a dead letter."""
    orders = seen.rows("order", "orders")
    held = seen.held
    moving = [o["order_id"] for o in orders if o["status"] not in TERMINAL]
    figures = {
        "orders": len(orders),
        "completed": sum(o["status"] == "COMPLETED" for o in orders),
        "cancelled": sum(o["status"] == "CANCELLED" for o in orders),
        "held": sum(order in held for order in moving),
    }
    notes = [f"{order} is held by {', '.join(letters)}" for order, letters in sorted(held.items())]
    return Finding(figures, [order for order in moving if order not in held], notes)


def money_matches_orders(seen: Evidence) -> Finding:
    """Captured minus refunded is the value of each COMPLETED order, and 0 for every other order (except held ones)."""
    due = {o["order_id"]: o["total_cents"] if o["status"] == "COMPLETED" else 0 for o in seen.rows("order", "orders")}
    kept = {m["order_id"]: m["captured"] - m["refunded"] for m in seen.rows("payment", "money")}
    checked = sorted((due.keys() | kept.keys()) - _held(seen))
    bad = [order for order in checked if due.get(order, 0) != kept.get(order, 0)]
    return Finding({"completed_orders_cents": sum(due.values()), "kept_cents": sum(kept.values())}, bad)


def nothing_is_held_for_cancelled_orders(seen: Evidence) -> Finding:
    """A CANCELLED order has no reserved stock and no active shipment; shipped stock is no longer reserved."""
    cancelled = {o["order_id"] for o in seen.rows("order", "orders") if o["status"] == "CANCELLED"}
    held = {h["order_id"] for h in seen.rows("inventory", "held") if h["held"] != 0} - _held(seen)
    alive = {s["order_id"] for s in seen.rows("shipping", "shipments") if s["status"] in ("SCHEDULED", "DISPATCHED")}
    figures = {"cancelled": len(cancelled), "stock_held": len(held), "shipments_alive": len(alive & cancelled)}
    return Finding(figures, sorted(held | (alive & cancelled) - _held(seen)))


def _held(seen: Evidence) -> set[str]:
    """Return the orders that a dead letter holds. An order that the order service never created is not included."""
    return {o["order_id"] for o in seen.rows("order", "orders")} & seen.held.keys()


def outboxes_are_in_kafka(seen: Evidence) -> Finding:
    """Each outbox row is in Kafka at least once."""
    rows = [row for outbox in seen.outbox.values() for row in outbox]
    bad = [row["order_id"] for row in rows if not seen.records[row["id"]]]
    known = {row["id"] for row in rows}
    figures = {
        "outbox_rows": len(rows),
        "records": sum(seen.records.values()),
        "records_without_a_row": sum(times for event, times in seen.records.items() if event not in known),
    }
    return Finding(figures, sorted(set(bad)))


def inboxes_hold_each_event_once(seen: Evidence) -> Finding:
    """Each outbox row is in the inbox of each service that acts on it exactly once, or is parked there."""
    expected, bad = 0, set()
    parked = {service: {row["event_id"] for row in rows} for service, rows in seen.parked.items()}
    for writer, outbox in seen.outbox.items():
        for reader, acts_on in ACTS_ON.items():
            wanted = [row for row in outbox if reader != writer and row["type"] in acts_on]
            wanted = [row for row in wanted if row["id"] not in parked[reader] or row["id"] in seen.inbox[reader]]
            expected += len(wanted)
            bad |= {row["order_id"] for row in wanted if seen.inbox[reader].get(row["id"], 0) != 1}
    figures = {
        "expected": expected,
        "inbox_rows": sum(sum(i.values()) for i in seen.inbox.values()),
        "parked": sum(len(rows) for rows in seen.parked.values()),
    }
    return Finding(figures, sorted(bad))


def each_effect_is_taken_once(seen: Evidence) -> Finding:
    """No order has the same effect twice."""
    twice = [row for tables in seen.tables.values() for row in tables["effects"]]
    counts = Counter((row["order_id"], row["type"]) for outbox in seen.outbox.values() for row in outbox)
    duplicates = {order for (order, _), times in counts.items() if times > 1}
    return Finding({"twice": len(twice) + len(duplicates)}, sorted({row["order_id"] for row in twice} | duplicates))


InvariantCheck = Callable[[Evidence], Finding]
ALWAYS: tuple[InvariantCheck, ...] = (
    stock_is_within_bounds,
    stock_adds_up,
    refunds_are_within_captures,
    balances_add_up,
    no_balance_is_below_zero,
)
AT_REST: tuple[InvariantCheck, ...] = (
    orders_are_terminal,
    money_matches_orders,
    nothing_is_held_for_cancelled_orders,
    outboxes_are_in_kafka,
    inboxes_hold_each_event_once,
    each_effect_is_taken_once,
)


def check_invariants(seen: Evidence, *, at_rest: bool) -> list[Verdict]:
    """Evaluate every invariant; those of a lab at rest stay open if the lab is not at rest."""
    return [_verdict(invariant, seen, True) for invariant in ALWAYS] + [
        _verdict(invariant, seen, at_rest) for invariant in AT_REST
    ]


def _verdict(invariant: InvariantCheck, seen: Evidence, applies: bool) -> Verdict:
    finding = invariant(seen)
    name = invariant.__name__.replace("_", "-")
    statement = (invariant.__doc__ or "").strip()
    if not applies:
        return Verdict(name, statement, None, finding.figures, [], finding.notes)
    return Verdict(name, statement, not finding.offenders, finding.figures, finding.offenders, finding.notes)
