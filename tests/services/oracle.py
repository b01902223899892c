"""The oracle: the invariants that the books must satisfy, whatever happens to the services.

It is derived from the contract instead of the code, and independently of the referee, so that each can reveal
defects of the other. Here the steps run one at a time and nothing else is at work, so the oracle sees the four
databases at the same moment. It can therefore be stricter than the referee, which observes a running lab.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from tests.services.books import Books

TERMINAL = ("COMPLETED", "CANCELLED")
FORWARD = ["PENDING", "RESERVED", "PAID", "COMPLETED"]
BACK = ["CANCELLING", "CANCELLED"]

CALLED_OFF = {"OrderCancelRequested": "cancelled_by_customer", "OrderTimedOut": "deadline_exceeded"}
ACTS_ON = {
    "order": {
        *("InventoryReserved", "InventoryReservationFailed", "InventoryReleased"),
        *("PaymentCompleted", "PaymentFailed", "PaymentRefunded"),
        *("ShipmentScheduled", "ShippingFailed", "ShipmentCancelled"),
    },
    "inventory": {"OrderCreated", "OrderCompleted", "PaymentFailed", "ShippingFailed", *CALLED_OFF},
    "payment": {"InventoryReserved", "InventoryReservationFailed", "ShippingFailed", *CALLED_OFF},
    "shipping": {"PaymentCompleted", "OrderCompleted", "InventoryReservationFailed", "PaymentFailed", *CALLED_OFF},
}
"""The event types that each service acts on. A service ignores all others."""

STEPS = {
    "inventory": ("reservations", "stock_movements"),
    "payment": ("payments", "ledger_entries"),
    "shipping": ("shipments", "carrier_bookings"),
}
"""The tables with a service's row for an order, and with its effects."""

DONE: dict[str, dict[str, tuple[set[str], set[str]]]] = {
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


def stock_is_within_bounds(books: Books) -> Iterable[object]:
    """For each product, 0 <= reserved <= on_hand."""
    return [p["sku"] for p in books.rows("inventory", "products") if not 0 <= p["reserved"] <= p["on_hand"]]


def stock_adds_up(books: Books) -> Iterable[object]:
    """For each product, the quantities on hand, reserved and shipped match its movements."""
    moved: Counter[tuple[str, str]] = Counter()
    for movement in books.rows("inventory", "stock_movements"):
        moved[movement["sku"], movement["effect"]] += movement["quantity"]
    for p in books.rows("inventory", "products"):
        came, reserved, released, shipped = (
            sum(moved[p["sku"], effect] for effect in effects)
            for effects in (("opening", "restock"), ("reserve",), ("release",), ("ship",))
        )
        if (p["on_hand"] + p["shipped"], p["reserved"], p["shipped"]) != (came, reserved - released - shipped, shipped):
            yield p["sku"]


def refunds_are_within_captures(books: Books) -> Iterable[object]:
    """For each order, the refunded amount is at most the captured amount."""
    return [order for order, cents in books.kept().items() if order and cents < 0]


def balances_add_up(books: Books) -> Iterable[object]:
    """For each account, balance = opening balance + deposits - captures + refunds."""
    owned: Counter[str] = Counter()
    for entry in books.rows("payment", "ledger_entries"):
        owned[entry["customer_id"]] += (-1 if entry["effect"] == "capture" else 1) * entry["amount_cents"]
    accounts = books.rows("payment", "accounts")
    return [a["customer_id"] for a in accounts if a["balance_cents"] != owned[a["customer_id"]]]


def no_balance_is_below_zero(books: Books) -> Iterable[object]:
    """No account's balance is below zero."""
    return [a["customer_id"] for a in books.rows("payment", "accounts") if a["balance_cents"] < 0]


def each_effect_is_taken_once(books: Books) -> Iterable[object]:
    """No order has the same effect twice, and no service publishes the same event type twice for it."""
    effects: Counter[tuple[str, ...]] = Counter()
    for service, (_, table) in STEPS.items():
        for row in books.rows(service, table):
            if row["order_id"]:
                effects[row["order_id"], service, row["effect"], row.get("sku", "")] += 1
    effects.update((row["order_id"], "order", row["effect"]) for row in books.rows("order", "order_answers"))
    for service in books.tables:
        effects.update((row["aggregateid"], service, row["type"]) for row in books.rows(service, "outbox"))
    return [what for what, times in effects.items() if times > 1]


def each_service_has_one_row_per_order(books: Books) -> Iterable[object]:
    """An order has at most one reservation, one payment and one shipment, however many events request it."""
    for service, (table, _) in STEPS.items():
        yield from (f"{order} in {service}" for order, rows in books.by_order(service, table).items() if len(rows) > 1)


def deeds_and_words_agree(books: Books) -> Iterable[object]:
    """In each service, an order's status, its effects and its published events are consistent."""
    for service, (table, effects) in STEPS.items():
        rows, done, said = (books.by_order(service, of) for of in (table, effects, "outbox"))
        for order in {*rows, *done, *said} - {None}:
            statuses = {row["status"] for row in rows[order]} or {"unknown"}
            story = {row["effect"] for row in done[order]}, {row["type"] for row in said[order]}
            if any(story != DONE[service].get(status, (set(), set())) for status in statuses):
                yield f"{order} is {statuses} in {service}, which has done and said {story}"


def amounts_are_those_of_the_order(books: Books) -> Iterable[object]:
    """The captured and refunded amounts are the order's total, and the moved goods are the order's goods."""
    entries, movements = books.by_order("payment", "ledger_entries"), books.by_order("inventory", "stock_movements")
    for order in books.orders:
        goods: Counter[str] = Counter()
        for line in order["items"]:
            goods[line["sku"]] += line["quantity"]
        right = all(entry["amount_cents"] == order["total_cents"] for entry in entries[order["order_id"]])
        for effect in {movement["effect"] for movement in movements[order["order_id"]]}:
            moved = [m for m in movements[order["order_id"]] if m["effect"] == effect]
            right = right and {m["sku"]: m["quantity"] for m in moved} == goods
        if not right:
            yield order["order_id"]


def histories_read_as_the_contract_says(books: Books) -> Iterable[object]:
    """PENDING, RESERVED, PAID, COMPLETED in this order; CANCELLING, CANCELLED before COMPLETED; the last is current."""
    history = books.by_order("order", "order_history")
    for order in books.orders:
        entries = sorted(history[order["order_id"]], key=lambda row: int(row["version"]))
        statuses = [entry["status"] for entry in entries]
        forward = [status for status in statuses if status in FORWARD]
        back = statuses[len(forward) :]
        in_order = forward == FORWARD[: len(forward)] and back == BACK[: len(back)]
        if not (in_order and forward and not ("COMPLETED" in forward and back)):
            yield f"{order['order_id']} was {', '.join(statuses)}"
        if statuses[-1:] != [order["status"]] or order["version"] != len(statuses):
            yield f"{order['order_id']} is {order['status']}, its history says {', '.join(statuses)}"


def nothing_is_owed_once_an_order_is_final(books: Books) -> Iterable[object]:
    """An order becomes CANCELLED only when everything is undone, and COMPLETED only when everything is done."""
    kept, held, alive = books.kept(), books.held(), books.alive()
    shipped = {row["order_id"] for row in books.rows("inventory", "stock_movements") if row["effect"] == "ship"}
    for order in books.orders:
        one = order["order_id"]
        if order["status"] == "CANCELLED" and (kept.get(one) or held.get(one) or one in alive):
            yield f"{one} is CANCELLED: {kept.get(one, 0)} cents, {held.get(one, 0)} pieces"
        if order["status"] == "COMPLETED" and not (
            kept.get(one) == order["total_cents"] and (held.get(one) or one in shipped) and one in alive
        ):
            yield f"{one} is COMPLETED: {kept.get(one, 0)} cents, {held.get(one, 0)} pieces"


def events_are_taken_in_the_order_of_their_arrival(books: Books) -> Iterable[object]:
    """Later events of an order never overtake earlier ones, even if those are parked."""
    for (service, order), arrived in books.arrived.items():
        came = [str(one) for one in arrived]
        inbox = sorted(books.rows(service, "inbox"), key=lambda row: str(row["handled_at"]))
        taken = [row["event_id"] for row in inbox if row["event_id"] in came]
        if taken != came[: len(taken)]:
            yield f"{order} in {service}"


def records_of_an_order_lie_together(books: Books) -> Iterable[object]:
    """In each topic, all records of an order are in one partition, because only a partition preserves the order."""
    places: dict[tuple[str, str | None], set[int]] = defaultdict(set)
    for record in books.records:
        places[record.topic, record.key].add(record.partition)
    return [f"{key} in {topic}" for (topic, key), partitions in places.items() if len(partitions) > 1]


# --- at rest


def orders_are_terminal(books: Books) -> Iterable[object]:
    """Every order is COMPLETED or CANCELLED, and no record is parked."""
    yield from (f"{o['order_id']} is {o['status']}" for o in books.orders if o["status"] not in TERMINAL)
    for service in books.tables:
        yield from (f"{row['key']} is parked in {service}" for row in books.rows(service, "parked_records"))


def money_matches_orders(books: Books) -> Iterable[object]:
    """Captured minus refunded is the total of each COMPLETED order, and zero for every other order."""
    kept = books.kept()
    for order in books.orders:
        if kept.get(order["order_id"], 0) != (order["total_cents"] if order["status"] == "COMPLETED" else 0):
            yield order["order_id"]


def goods_have_left_or_are_free(books: Books) -> Iterable[object]:
    """No goods are held; exactly the COMPLETED orders have shipped goods and a dispatched shipment."""
    movements, held, alive = books.by_order("inventory", "stock_movements"), books.held(), books.alive()
    dispatched = {row["order_id"] for row in books.rows("shipping", "shipments") if row["status"] == "DISPATCHED"}
    for order in books.orders:
        one, completed = order["order_id"], order["status"] == "COMPLETED"
        shipped = any(movement["effect"] == "ship" for movement in movements[one])
        if held.get(one) or {one in alive, one in dispatched, shipped} != {completed}:
            yield one


def each_event_is_in_each_inbox_once(books: Books) -> Iterable[object]:
    """Each outbox row is a record, and is in the inbox of each service that acts on it exactly once."""
    written = {record.headers["ce_id"] for record in books.records}
    inboxes = {name: Counter(row["event_id"] for row in books.rows(name, "inbox")) for name in books.tables}
    for writer in books.tables:
        for row in books.rows(writer, "outbox"):
            readers = [name for name in books.tables if name != writer and row["type"] in ACTS_ON[name]]
            if row["id"] not in written or any(inboxes[name][row["id"]] != 1 for name in readers):
                yield f"{row['type']} of {row['aggregateid']}"


def the_reason_is_the_first_cause(books: Books) -> Iterable[object]:
    """A CANCELLED order names its reason, either a cancellation or a service's refusal; a COMPLETED order has none."""
    said = {name: books.by_order(name, "outbox") for name in books.tables}
    for order in books.orders:
        events = [event for of_service in said.values() for event in of_service[order["order_id"]]]
        off = {CALLED_OFF[event["type"]] for event in events if event["type"] in CALLED_OFF}
        refused = {event["payload"]["reason"] for event in events if event["type"].endswith("Failed")}
        right = {None} if order["status"] == "COMPLETED" else off or refused - {"order_cancelled"}
        if {order["failure_reason"]} != right:
            yield f"{order['order_id']}: {order['failure_reason']}"


Judge = Callable[[Books], Iterable[object]]
ALWAYS: tuple[Judge, ...] = (
    stock_is_within_bounds,
    stock_adds_up,
    refunds_are_within_captures,
    balances_add_up,
    no_balance_is_below_zero,
    each_effect_is_taken_once,
    each_service_has_one_row_per_order,
    deeds_and_words_agree,
    amounts_are_those_of_the_order,
    histories_read_as_the_contract_says,
    nothing_is_owed_once_an_order_is_final,
    events_are_taken_in_the_order_of_their_arrival,
    records_of_an_order_lie_together,
)
AT_REST: tuple[Judge, ...] = (
    orders_are_terminal,
    money_matches_orders,
    goods_have_left_or_are_free,
    each_event_is_in_each_inbox_once,
    the_reason_is_the_first_cause,
)


def audit(books: Books, *, at_rest: bool = False) -> None:
    """Check the books against every invariant.

    Raises
    ------
    Violated
        If an invariant does not hold; names the first one.
    """
    for judge in (*ALWAYS, *(AT_REST if at_rest else ())):
        if offenders := list(judge(books)):
            raise Violated(judge.__name__, offenders)
