"""One order in the order service: its history, the recorded answers, its own events, and its idempotency key."""

from __future__ import annotations

from collections.abc import Iterator

from labservices.contract import CANCELLATIONS, STEPS
from labstack.consistency.evidence import Row
from labstack.consistency.facts import Difference, EventFacts, Facts

PROGRESS = ["PENDING", *(step.reaches for step in STEPS)]
CANCEL = ["CANCELLING", "CANCELLED"]
FAILURES = {step.failure for step in STEPS}
ANSWERS = {kind for step in STEPS for kind in (step.success, step.failure, step.undo)}
CAUSES = {
    "PENDING": {"OrderCreated"},
    **{step.reaches: {step.success} for step in STEPS},
    "CANCELLING": CANCELLATIONS | FAILURES,
    "CANCELLED": ANSWERS,
}
"""The event types that bring an order into a status."""


def history_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the terminal orders whose row and history contradict each other, or contradict the events they name."""
    history = facts.by_order("order", "order_history")
    for order in facts.ended:
        entries = sorted(history.get(order["order_id"], []), key=lambda row: int(row["version"]))
        for what in _contradictions(facts, order, entries):
            yield order["order_id"], what
    for order_id in history.keys() - facts.orders.keys():
        yield order_id, "the order has a history, but no row"


def _contradictions(facts: Facts, order: Row, entries: list[Row]) -> Iterator[str]:
    statuses = [entry["status"] for entry in entries]
    paths = [PROGRESS] if order["status"] == PROGRESS[-1] else [PROGRESS[:n] + CANCEL for n in range(1, len(PROGRESS))]
    if statuses not in paths:
        yield f"the order is {order['status']}, but its history says {', '.join(statuses) or 'nothing'}"
    if [entry["version"] for entry in entries] != list(range(1, order["version"] + 1)):
        yield f"the order's version is {order['version']}, but its history has {len(entries)} entries"
    for entry in entries:
        if entry["reason"] != (order["failure_reason"] if entry["status"] in CANCEL else None):
            yield f"the history's reason for {entry['status']} is {entry['reason']}, not {order['failure_reason']}"
        if not _has_cause(facts, order["order_id"], entry):
            yield f"no event of the order with the ID {entry['event_id']} leads to {entry['status']}"
    if (order["status"] in CANCEL) != (order["failure_reason"] is not None):
        yield f"the order is {order['status']}, with the reason {order['failure_reason']}"
    for entry in entries:
        cause = facts.events.get(entry["event_id"])
        if entry["status"] == CANCEL[0] and cause and cause.reason != order["failure_reason"]:
            yield f"the order's reason is {order['failure_reason']}, but {cause.type} says {cause.reason}"


def _has_cause(facts: Facts, order_id: str, entry: Row) -> bool:
    if facts.is_id_of(entry["event_id"], order_id, CAUSES.get(entry["status"], ())):
        return True
    # An event that was lost, and that a person has written again by hand, has another ID than the history says.
    created = [event for event in facts.events_of.get(order_id, ()) if event.type == "OrderCreated"]
    is_rewritten = len(created) == 1 and not created[0].is_traced
    return entry["status"] == PROGRESS[0] and is_rewritten and entry["event_id"] not in facts.events


def answer_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the terminal orders whose recorded answers are not the events that the other services published."""
    answers = facts.by_order("order", "order_answers")
    for order in facts.ended:
        order_id = order["order_id"]
        published = {event.type: event for event in facts.events_of.get(order_id, ()) if event.type in ANSWERS}
        recorded = answers.get(order_id, [])
        if sorted(row["type"] for row in recorded) != sorted(published):
            yield order_id, f"the answers are {', '.join(sorted(row['type'] for row in recorded)) or 'missing'}"
        for row in recorded:
            event = published.get(row["type"])
            if row["effect"] != effect_of(row["type"]):
                yield order_id, f"the answer {row['type']} has the effect {row['effect']}"
            if event and row["reason"] != event.reason:
                yield order_id, f"the reason of the answer {row['type']} is {row['reason']}, not {event.reason}"
            if not facts.is_id_of(row["event_id"], order_id, [row["type"]]):
                yield order_id, f"the answer {row['type']} has the ID of no such event"
    for order_id in answers.keys() - facts.orders.keys():
        yield order_id, "the order has answers, but no row"


def effect_of(kind: str) -> str | None:
    """Return the effect under which the order service records an answer; success and failure share one."""
    for step in STEPS:
        if kind in (step.success, step.failure):
            return f"{step.service} answered"
        if kind == step.undo:
            return f"{step.service} undone"
    return None


def own_event_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the terminal orders whose events in order.events do not fit their status."""
    history = facts.by_order("order", "order_history")
    for order in facts.ended:
        order_id = order["order_id"]
        own = {event.type: event for event in facts.events_of.get(order_id, ()) if event.service == "order"}
        causes = {entry["event_id"] for entry in history.get(order_id, ()) if entry["status"] == CANCEL[0]}
        cancellations = {facts.events[cause].type for cause in causes if cause in facts.events} & CANCELLATIONS
        end = "OrderCompleted" if order["status"] == PROGRESS[-1] else "OrderCancelled"
        if own.keys() != {"OrderCreated", end, *cancellations}:
            yield order_id, f"the order is {order['status']}, with the events {', '.join(sorted(own)) or 'none'}"
        for event in own.values():
            if not _is_caused(facts, event):
                yield order_id, f"{event.type} has the cause {event.cause}"


def _is_caused(facts: Facts, event: EventFacts) -> bool:
    causes = {"OrderCompleted": {STEPS[-1].success}, "OrderCancelled": ANSWERS}.get(event.type)
    return facts.is_id_of(event.cause, event.order_id, causes) if causes else event.cause is None


def key_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the idempotency keys that have no order, or the order of another request."""
    for row in facts.rows("order", "idempotency_keys"):
        order = facts.orders.get(row["order_id"])
        if order is None:
            yield row["order_id"], f"the idempotency key {row['key']} has no order"
            continue
        items = [{"sku": line.get("sku"), "quantity": line.get("quantity")} for line in order["items"]]
        if row["request"] != {"customer_id": order["customer_id"], "destination": order["destination"], "items": items}:
            yield row["order_id"], f"the idempotency key {row['key']} has another request"
