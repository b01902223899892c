"""The oracle: the invariants that every snapshot must satisfy, even after faults in the services.

It is derived from the contract instead of the code, and independently of the referee, so that each can reveal
defects of the other. Here the steps run one at a time and nothing else is at work, so the oracle sees the four
databases at the same moment. It can therefore be stricter than the referee, which observes a running lab.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from tests.services.books import Snapshot

TERMINAL = ("COMPLETED", "CANCELLED")
FORWARD = ["PENDING", "RESERVED", "PAID", "COMPLETED"]
BACKWARD = ["CANCELLING", "CANCELLED"]

CANCELLATION_REASONS = {"OrderCancelRequested": "cancelled_by_customer", "OrderTimedOut": "deadline_exceeded"}
ACTS_ON = {
    "order": {
        *("InventoryReserved", "InventoryReservationFailed", "InventoryReleased"),
        *("PaymentCompleted", "PaymentFailed", "PaymentRefunded"),
        *("ShipmentScheduled", "ShippingFailed", "ShipmentCancelled"),
    },
    "inventory": {"OrderCreated", "OrderCompleted", "PaymentFailed", "ShippingFailed", *CANCELLATION_REASONS},
    "payment": {"InventoryReserved", "InventoryReservationFailed", "ShippingFailed", *CANCELLATION_REASONS},
    "shipping": {
        "PaymentCompleted",
        "OrderCompleted",
        "InventoryReservationFailed",
        "PaymentFailed",
        *CANCELLATION_REASONS,
    },
}
"""The event types that each service acts on. A service ignores all others."""

STEPS = {
    "inventory": ("reservations", "stock_movements"),
    "payment": ("payments", "ledger_entries"),
    "shipping": ("shipments", "carrier_bookings"),
}
"""The tables with a service's row for an order, and with its effects."""

EXPECTED: dict[str, dict[str, tuple[set[str], set[str]]]] = {
    "inventory": {
        "RESERVED": ({"reserve"}, {"InventoryReserved"}),
        "FAILED": (set(), {"InventoryReservationFailed"}),
        "RELEASED": ({"reserve", "release"}, {"InventoryReserved", "InventoryReleased"}),
        "SHIPPED": ({"reserve", "ship"}, {"InventoryReserved"}),
    },
    "payment": {
        "COMPLETED": ({"capture"}, {"PaymentCompleted"}),
        "FAILED": (set(), {"PaymentFailed"}),
        "REFUNDED": ({"capture", "refund"}, {"PaymentCompleted", "PaymentRefunded"}),
    },
    "shipping": {
        "SCHEDULED": ({"schedule"}, {"ShipmentScheduled"}),
        "FAILED": (set(), {"ShippingFailed"}),
        "CANCELLED": ({"schedule", "cancel"}, {"ShipmentScheduled", "ShipmentCancelled"}),
        "DISPATCHED": ({"schedule", "dispatch"}, {"ShipmentScheduled"}),
    },
}
"""The effects and the published events of a service for an order, by the status of its row; none for other statuses."""


class Violated(AssertionError):
    """An invariant does not hold."""

    def __init__(self, invariant: str, offenders: Iterable[object]) -> None:
        super().__init__(f"{invariant}: {', '.join(str(one) for one in offenders)}")
        self.invariant = invariant


# --- always


def stock_is_within_bounds(snapshot: Snapshot) -> Iterable[object]:
    """For each product, 0 <= reserved <= on_hand."""
    return [p["sku"] for p in snapshot.rows("inventory", "products") if not 0 <= p["reserved"] <= p["on_hand"]]


def stock_adds_up(snapshot: Snapshot) -> Iterable[object]:
    """For each product, the quantities on hand, reserved and shipped match its movements."""
    moved: Counter[tuple[str, str]] = Counter()
    for movement in snapshot.rows("inventory", "stock_movements"):
        moved[movement["sku"], movement["effect"]] += movement["quantity"]
    for p in snapshot.rows("inventory", "products"):
        received, reserved, released, shipped = (
            sum(moved[p["sku"], effect] for effect in effects)
            for effects in (("opening", "restock"), ("reserve",), ("release",), ("ship",))
        )
        if (p["on_hand"] + p["shipped"], p["reserved"], p["shipped"]) != (
            received,
            reserved - released - shipped,
            shipped,
        ):
            yield p["sku"]


def refunds_are_within_captures(snapshot: Snapshot) -> Iterable[object]:
    """For each order, the refunded amount is at most the captured amount."""
    return [order for order, cents in snapshot.net_captures().items() if order and cents < 0]


def balances_add_up(snapshot: Snapshot) -> Iterable[object]:
    """For each account, balance = opening balance + deposits - captures + refunds."""
    expected: Counter[str] = Counter()
    for entry in snapshot.rows("payment", "ledger_entries"):
        expected[entry["customer_id"]] += (-1 if entry["effect"] == "capture" else 1) * entry["amount_cents"]
    accounts = snapshot.rows("payment", "accounts")
    return [a["customer_id"] for a in accounts if a["balance_cents"] != expected[a["customer_id"]]]


def no_balance_is_below_zero(snapshot: Snapshot) -> Iterable[object]:
    """No account's balance is below zero."""
    return [a["customer_id"] for a in snapshot.rows("payment", "accounts") if a["balance_cents"] < 0]


def each_effect_is_applied_once(snapshot: Snapshot) -> Iterable[object]:
    """No order has the same effect twice, and no service publishes the same event type twice for it."""
    effects: Counter[tuple[str, ...]] = Counter()
    for service, (_, table) in STEPS.items():
        for row in snapshot.rows(service, table):
            if row["order_id"]:
                effects[row["order_id"], service, row["effect"], row.get("sku", "")] += 1
    effects.update((row["order_id"], "order", row["effect"]) for row in snapshot.rows("order", "order_answers"))
    for service in snapshot.tables:
        effects.update((row["aggregateid"], service, row["type"]) for row in snapshot.rows(service, "outbox"))
    return [what for what, times in effects.items() if times > 1]


def each_service_has_one_row_per_order(snapshot: Snapshot) -> Iterable[object]:
    """An order has at most one reservation, one payment and one shipment, however many events request it."""
    for service, (table, _) in STEPS.items():
        yield from (
            f"{order} in {service}" for order, rows in snapshot.by_order(service, table).items() if len(rows) > 1
        )


def status_effects_and_events_agree(snapshot: Snapshot) -> Iterable[object]:
    """In each service, an order's status, its effects and its published events are consistent."""
    for service, (table, effects) in STEPS.items():
        rows, applied, published = (snapshot.by_order(service, of) for of in (table, effects, "outbox"))
        for order in {*rows, *applied, *published} - {None}:
            statuses = {row["status"] for row in rows[order]} or {"unknown"}
            actual = {row["effect"] for row in applied[order]}, {row["type"] for row in published[order]}
            if any(actual != EXPECTED[service].get(status, (set(), set())) for status in statuses):
                yield f"{order} is {statuses} in {service}, with effects and events {actual}"


def amounts_match_the_order(snapshot: Snapshot) -> Iterable[object]:
    """The captured and refunded amounts are the order's total, and the moved goods are the order's goods."""
    entries, movements = (
        snapshot.by_order("payment", "ledger_entries"),
        snapshot.by_order("inventory", "stock_movements"),
    )
    for order in snapshot.orders:
        goods: Counter[str] = Counter()
        for line in order["items"]:
            goods[line["sku"]] += line["quantity"]
        right = all(entry["amount_cents"] == order["total_cents"] for entry in entries[order["order_id"]])
        for effect in {movement["effect"] for movement in movements[order["order_id"]]}:
            moved = [m for m in movements[order["order_id"]] if m["effect"] == effect]
            right = right and {m["sku"]: m["quantity"] for m in moved} == goods
        if not right:
            yield order["order_id"]


def histories_follow_the_contract(snapshot: Snapshot) -> Iterable[object]:
    """PENDING, RESERVED, PAID, COMPLETED in this order; CANCELLING, CANCELLED before COMPLETED; the last is current."""
    history = snapshot.by_order("order", "order_history")
    for order in snapshot.orders:
        entries = sorted(history[order["order_id"]], key=lambda row: int(row["version"]))
        statuses = [entry["status"] for entry in entries]
        forward = [status for status in statuses if status in FORWARD]
        backward = statuses[len(forward) :]
        in_order = forward == FORWARD[: len(forward)] and backward == BACKWARD[: len(backward)]
        if not (in_order and forward and not ("COMPLETED" in forward and backward)):
            yield f"{order['order_id']} was {', '.join(statuses)}"
        if statuses[-1:] != [order["status"]] or order["version"] != len(statuses):
            yield f"{order['order_id']} is {order['status']}, its history says {', '.join(statuses)}"


def terminal_orders_are_settled(snapshot: Snapshot) -> Iterable[object]:
    """An order becomes CANCELLED only when everything is undone, and COMPLETED only when everything is done."""
    net_captures, held_goods, active_shipments = (
        snapshot.net_captures(),
        snapshot.held_goods(),
        snapshot.active_shipments(),
    )
    shipped = {row["order_id"] for row in snapshot.rows("inventory", "stock_movements") if row["effect"] == "ship"}
    for order in snapshot.orders:
        one = order["order_id"]
        if order["status"] == "CANCELLED" and (net_captures.get(one) or held_goods.get(one) or one in active_shipments):
            yield f"{one} is CANCELLED: {net_captures.get(one, 0)} cents, {held_goods.get(one, 0)} pieces"
        if order["status"] == "COMPLETED" and not (
            net_captures.get(one) == order["total_cents"]
            and (held_goods.get(one) or one in shipped)
            and one in active_shipments
        ):
            yield f"{one} is COMPLETED: {net_captures.get(one, 0)} cents, {held_goods.get(one, 0)} pieces"


def events_are_handled_in_order_of_arrival(snapshot: Snapshot) -> Iterable[object]:
    """Later events of an order never overtake earlier ones, even if those are parked."""
    for (service, order), arrived in snapshot.arrived.items():
        received = [str(one) for one in arrived]
        inbox = sorted(snapshot.rows(service, "inbox"), key=lambda row: str(row["handled_at"]))
        handled = [row["event_id"] for row in inbox if row["event_id"] in received]
        if handled != received[: len(handled)]:
            yield f"{order} in {service}"


def records_of_an_order_share_a_partition(snapshot: Snapshot) -> Iterable[object]:
    """In each topic, all records of an order are in one partition, because only a partition preserves the order."""
    places: dict[tuple[str, str | None], set[int]] = defaultdict(set)
    for record in snapshot.records:
        places[record.topic, record.key].add(record.partition)
    return [f"{key} in {topic}" for (topic, key), partitions in places.items() if len(partitions) > 1]


# --- at rest


def orders_are_terminal(snapshot: Snapshot) -> Iterable[object]:
    """Every order is COMPLETED or CANCELLED, and no record is parked."""
    yield from (f"{o['order_id']} is {o['status']}" for o in snapshot.orders if o["status"] not in TERMINAL)
    for service in snapshot.tables:
        yield from (f"{row['key']} is parked in {service}" for row in snapshot.rows(service, "parked_records"))


def money_matches_orders(snapshot: Snapshot) -> Iterable[object]:
    """Captured minus refunded is the total of each COMPLETED order, and zero for every other order."""
    net_captures = snapshot.net_captures()
    for order in snapshot.orders:
        if net_captures.get(order["order_id"], 0) != (order["total_cents"] if order["status"] == "COMPLETED" else 0):
            yield order["order_id"]


def goods_are_shipped_or_released(snapshot: Snapshot) -> Iterable[object]:
    """No goods are held; exactly the COMPLETED orders have shipped goods and a dispatched shipment."""
    movements, held_goods, active_shipments = (
        snapshot.by_order("inventory", "stock_movements"),
        snapshot.held_goods(),
        snapshot.active_shipments(),
    )
    dispatched = {row["order_id"] for row in snapshot.rows("shipping", "shipments") if row["status"] == "DISPATCHED"}
    for order in snapshot.orders:
        one, completed = order["order_id"], order["status"] == "COMPLETED"
        shipped = any(movement["effect"] == "ship" for movement in movements[one])
        if held_goods.get(one) or {one in active_shipments, one in dispatched, shipped} != {completed}:
            yield one


def each_event_is_in_each_inbox_once(snapshot: Snapshot) -> Iterable[object]:
    """Each outbox row is a record, and is in the inbox of each service that acts on it exactly once."""
    written = {record.headers["ce_id"] for record in snapshot.records}
    inboxes = {name: Counter(row["event_id"] for row in snapshot.rows(name, "inbox")) for name in snapshot.tables}
    for writer in snapshot.tables:
        for row in snapshot.rows(writer, "outbox"):
            readers = [name for name in snapshot.tables if name != writer and row["type"] in ACTS_ON[name]]
            if row["id"] not in written or any(inboxes[name][row["id"]] != 1 for name in readers):
                yield f"{row['type']} of {row['aggregateid']}"


def failure_reason_is_the_first_cause(snapshot: Snapshot) -> Iterable[object]:
    """A CANCELLED order names its reason, either a cancellation or a service's refusal; a COMPLETED order has none."""
    published = {name: snapshot.by_order(name, "outbox") for name in snapshot.tables}
    for order in snapshot.orders:
        events = [event for of_service in published.values() for event in of_service[order["order_id"]]]
        off = {CANCELLATION_REASONS[event["type"]] for event in events if event["type"] in CANCELLATION_REASONS}
        refused = {event["payload"]["reason"] for event in events if event["type"].endswith("Failed")}
        right = {None} if order["status"] == "COMPLETED" else off or refused - {"order_cancelled"}
        if {order["failure_reason"]} != right:
            yield f"{order['order_id']}: {order['failure_reason']}"


Invariant = Callable[[Snapshot], Iterable[object]]
ALWAYS: tuple[Invariant, ...] = (
    stock_is_within_bounds,
    stock_adds_up,
    refunds_are_within_captures,
    balances_add_up,
    no_balance_is_below_zero,
    each_effect_is_applied_once,
    each_service_has_one_row_per_order,
    status_effects_and_events_agree,
    amounts_match_the_order,
    histories_follow_the_contract,
    terminal_orders_are_settled,
    events_are_handled_in_order_of_arrival,
    records_of_an_order_share_a_partition,
)
AT_REST: tuple[Invariant, ...] = (
    orders_are_terminal,
    money_matches_orders,
    goods_are_shipped_or_released,
    each_event_is_in_each_inbox_once,
    failure_reason_is_the_first_cause,
)


def audit(snapshot: Snapshot, *, at_rest: bool = False) -> None:
    """Check a snapshot against every invariant.

    Raises
    ------
    Violated
        If an invariant does not hold; names the first one.
    """
    for invariant in (*ALWAYS, *(AT_REST if at_rest else ())):
        if offenders := list(invariant(snapshot)):
            raise Violated(invariant.__name__, offenders)
