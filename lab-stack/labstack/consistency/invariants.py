"""The invariants: one function each, from the facts to a result.

The first five always hold, each within one database and one snapshot. The others hold at rest: no order is in flight,
and no consumer lags. The package's docstring lists what is compared with what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain

from labservices.contract import STEPS, TERMINAL
from labstack.consistency import agreement, delivery, orders, sums
from labstack.consistency.evidence import Evidence
from labstack.consistency.facts import Difference, Facts
from labstack.consistency.steps import step_differences

MAX_DIFFERENCES = 50
"""Number of differences that a verdict describes; it names all offenders."""


@dataclass(frozen=True)
class Result:
    """The result of an invariant's function.

    Attributes
    ----------
    figures : dict
        Counts and sums, by name.
    differences : iterable
        What violates the invariant; it is evaluated only if the invariant applies.
    notes : list of str
        Further information.
    """

    figures: dict[str, int]
    differences: Iterable[Difference]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class InvariantVerdict:
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
        Further information, such as which dead letter holds which order, and what two tables disagree about.
    """

    name: str
    statement: str
    holds: bool | None
    figures: dict[str, int]
    offenders: list[str]
    notes: list[str] = field(default_factory=list)


def stock_is_within_bounds(facts: Facts) -> Result:
    """For each product, 0 <= reserved <= on_hand, and shipped >= 0."""
    products = facts.rows("inventory", "products")
    bad = (p for p in products if not 0 <= p["reserved"] <= p["on_hand"] or p["shipped"] < 0)
    differences = ((p["sku"], f"{p['reserved']} of {p['on_hand']} are reserved, {p['shipped']} shipped") for p in bad)
    return Result({"products": len(products), "reserved": sum(p["reserved"] for p in products)}, differences)


def stock_adds_up(facts: Facts) -> Result:
    """For each product, on_hand + shipped = opening stock + restocks; the movements add up to reserved and shipped."""
    products = facts.rows("inventory", "products")
    figures = {"products": len(products), "shipped": sum(p["shipped"] for p in products)}
    return Result(figures, sums.stock_differences(facts))


def refunds_are_within_captures(facts: Facts) -> Result:
    """For each order, the refunded amount is at most the captured amount."""
    money = sums.money(facts)
    differences = (
        (order_id, f"{its['capture']} cents were captured, but {its['refund']} were refunded")
        for order_id, its in money.items()
        if its["refund"] > its["capture"]
    )
    figures = {
        "captured": sum(its["capture"] for its in money.values()),
        "refunded": sum(its["refund"] for its in money.values()),
    }
    return Result(figures, differences)


def balances_add_up(facts: Facts) -> Result:
    """For each account, balance = opening balance + deposits - captures + refunds."""
    return Result({"accounts": len(facts.rows("payment", "accounts"))}, sums.balance_differences(facts))


def no_balance_is_below_zero(facts: Facts) -> Result:
    """No account's balance is below zero."""
    balances = {a["customer_id"]: a["balance_cents"] for a in facts.rows("payment", "accounts")}
    differences = ((customer, f"the balance is {cents}") for customer, cents in balances.items() if cents < 0)
    return Result({"accounts": len(balances), "lowest_cents": min(balances.values(), default=0)}, differences)


def orders_are_terminal(facts: Facts) -> Result:
    """Every order is COMPLETED or CANCELLED, as its history says, or held by a dead letter."""
    all_orders = facts.orders.values()
    moving = [o["order_id"] for o in all_orders if o["status"] not in TERMINAL]
    figures = {
        "orders": len(all_orders),
        "completed": sum(o["status"] == "COMPLETED" for o in all_orders),
        "cancelled": sum(o["status"] == "CANCELLED" for o in all_orders),
        "held": sum(order in facts.held for order in moving),
    }
    letters = [f"{order} is held by {', '.join(its)}" for order, its in sorted(facts.seen.held.items())]
    open_orders = ((order, "the order has not ended") for order in moving if order not in facts.held)
    return Result(figures, chain(open_orders, orders.history_differences(facts)), letters)


def money_matches_orders(facts: Facts) -> Result:
    """Captured minus refunded is the value of each COMPLETED order, and 0 for every other order (except held ones)."""
    due = {o["order_id"]: o["total_cents"] if o["status"] == "COMPLETED" else 0 for o in facts.orders.values()}
    kept = {order: its["capture"] - its["refund"] for order, its in sums.money(facts).items()}
    wrong = (
        (order, f"{kept.get(order, 0)} cents were kept, but {due.get(order, 0)} are due")
        for order in (due.keys() | kept.keys()) - facts.held
        if due.get(order, 0) != kept.get(order, 0)
    )
    figures = {"completed_orders_cents": sum(due.values()), "kept_cents": sum(kept.values())}
    return Result(figures, chain(wrong, agreement.amount_differences(facts), agreement.price_differences(facts)))


def nothing_is_held_for_cancelled_orders(facts: Facts) -> Result:
    """No CANCELLED or unknown order holds stock or a shipment, and no order holds reserved stock after its shipment."""
    cancelled = {order for order, row in facts.orders.items() if row["status"] == "CANCELLED"}
    held = sums.orders_with_goods(facts) - facts.held
    active = (STEPS[-1].taken, STEPS[-1].completed)
    alive = {row["order_id"] for row in facts.rows("shipping", "shipments") if row["status"] in active} & cancelled
    unknown = {order for step in STEPS for order in facts.by_order(step.service, step.table)} - facts.orders.keys()
    figures = {"cancelled": len(cancelled), "stock_held": len(held), "shipments_alive": len(alive)}
    differences = (
        *((order, "goods are reserved") for order in held),
        *((order, "its shipment is active") for order in alive - facts.held),
        *((order, "the order service does not have it") for order in unknown),
    )
    return Result(figures, differences)


def outboxes_are_in_kafka(facts: Facts) -> Result:
    """Each outbox row is in Kafka at least once, with the same content; each relayed record has its row."""
    figures = {
        "outbox_rows": len(facts.outbox),
        "records": len(facts.seen.records),
        "records_without_a_row": sum(len(its) for event, its in facts.records.items() if event not in facts.outbox),
    }
    return Result(figures, chain(delivery.relay_differences(facts), agreement.payload_differences(facts)))


def inboxes_hold_each_event_once(facts: Facts) -> Result:
    """Each event has one ID, and is exactly once in the inbox of each service that acts on it, or is parked there."""
    parked = [row for service in facts.seen.tables for row in facts.rows(service, "parked_records")]
    figures = {
        "expected": sum(map(len, delivery.expected_in_inbox(facts).values())),
        "inbox_rows": sum(len(facts.rows(service, "inbox")) for service in facts.seen.tables),
        "parked": len(parked),
    }
    checks = (
        delivery.inbox_differences,
        delivery.copy_differences,
        delivery.parking_differences,
        delivery.position_differences,
    )
    return Result(figures, chain.from_iterable(check(facts) for check in checks))


def each_effect_is_taken_once(facts: Facts) -> Result:
    """No order has the same effect twice, and each has the effects, answers and events that belong to its status."""
    effects: Counter[tuple[str, ...]] = Counter()
    for step in STEPS:
        for order, rows in facts.by_order(step.service, step.effects).items():
            effects.update((order, step.service, row["effect"], row.get("sku", "")) for row in rows)
    effects.update((row["order_id"], "order", row["effect"]) for row in facts.rows("order", "order_answers"))
    for service in facts.seen.tables:
        effects.update((row["aggregateid"], service, row["type"]) for row in facts.rows(service, "outbox"))
    twice = [(what[0], f"{what[2]} {times} times in {what[1]}") for what, times in effects.items() if times > 1]
    checks = (
        step_differences,
        agreement.end_differences,
        agreement.copy_differences,
        agreement.double_rows,
        orders.answer_differences,
        orders.own_event_differences,
        orders.key_differences,
    )
    return Result({"twice": len(twice)}, chain(twice, *(check(facts) for check in checks)))


InvariantCheck = Callable[[Facts], Result]
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


def check_invariants(seen: Evidence, *, at_rest: bool) -> list[InvariantVerdict]:
    """Evaluate every invariant; those of a lab at rest stay open if the lab is not at rest."""
    facts = Facts(seen)
    return [_verdict(invariant, facts, True) for invariant in ALWAYS] + [
        _verdict(invariant, facts, at_rest) for invariant in AT_REST
    ]


def _verdict(invariant: InvariantCheck, facts: Facts, applies: bool) -> InvariantVerdict:
    result = invariant(facts)
    name = invariant.__name__.replace("_", "-")
    statement = (invariant.__doc__ or "").strip()
    if not applies:
        return InvariantVerdict(name, statement, None, result.figures, [], result.notes)
    found = sorted(set(result.differences))
    notes = [*result.notes, *(f"{who}: {what}" for who, what in found[:MAX_DIFFERENCES])]
    return InvariantVerdict(name, statement, not found, result.figures, sorted({who for who, _ in found}), notes)
