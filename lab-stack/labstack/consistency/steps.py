"""One step of an order inside its service: the row, its effects and its events, which one transaction wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from labservices.contract import STEPS, Step
from labstack.consistency.evidence import Row
from labstack.consistency.facts import Difference, EventFacts, Facts, undo_causes

FAILED, TOMBSTONE = "FAILED", "TOMBSTONE"


def outcome(step: Step, status: str) -> tuple[set[str], set[str]] | None:
    """Return the effects and the events that belong to a status of a step's row, or None if no row may have it."""
    outcomes: dict[str, tuple[set[str], set[str]]] = {
        TOMBSTONE: (set(), set()),
        FAILED: (set(), {step.failure}),
        step.taken: ({step.take}, {step.success}),
        step.undone: ({step.take, step.revert}, {step.success, step.undo}),
    }
    if step.complete:
        outcomes[step.completed] = ({step.take, step.complete}, {step.success})
    return outcomes.get(status)


def step_differences(facts: Facts) -> Iterator[Difference]:
    """Yield the steps whose row, effects and events contradict each other."""
    for step in STEPS:
        rows, effects = facts.by_order(step.service, step.table), facts.by_order(step.service, step.effects)
        events = {order: [e for e in all_ if e.service == step.service] for order, all_ in facts.events_of.items()}
        for order in sorted({*rows, *effects, *(order for order, its in events.items() if its)}):
            if len(rows.get(order, ())) != 1:
                yield order, f"{step.service} has {len(rows.get(order, ()))} rows in {step.table}"
                continue
            row = rows[order][0]
            for what in _contradictions(facts, step, row, effects.get(order, []), events.get(order, [])):
                yield order, f"{step.service}: {what}"


def _contradictions(facts: Facts, step: Step, row: Row, effects: list[Row], events: list[EventFacts]) -> Iterator[str]:
    expected = outcome(step, row["status"])
    if expected is None:
        yield f"the row is {row['status']}"
        return
    skus = [line.get("sku") for line in row["lines"]] if "lines" in row else [None]
    applied = Counter((effect["effect"], effect.get("sku")) for effect in effects)
    if applied != Counter((effect, sku) for effect in expected[0] for sku in skus):
        yield f"the row is {row['status']}, with the effects {_listed(effect['effect'] for effect in effects)}"
    if Counter(event.type for event in events) != Counter(expected[1]):
        yield f"the row is {row['status']}, with the events {_listed(event.type for event in events)}"
    reasons = {event.reason for event in events if event.type == step.failure} or {None}
    if reasons != {row["failure_reason"]}:
        yield f"the row's reason is {row['failure_reason']}, the event's is {', '.join(map(str, reasons))}"
    if "carrier" in row and (row["carrier"] is not None) != (step.take in expected[0]):
        yield f"the row is {row['status']}, with the carrier {row['carrier']}"
    for event in events:
        if event.payload.get(step.key) != row[step.key]:
            yield f"{event.type} names another {step.key}"
        if row.get("carrier") != event.payload.get("carrier"):
            yield f"{event.type} names another carrier"
    for effect in effects:
        yield from _effect_contradictions(step, row, effect)
    if row["order_id"] in facts.orders:
        yield from _wrong_causes(facts, step, row["order_id"], effects, events)


def _effect_contradictions(step: Step, row: Row, effect: Row) -> Iterator[str]:
    """Yield the columns of an effect that differ from those of the step's row."""
    for column in {step.key, "customer_id", "carrier"} & effect.keys():
        if effect[column] != row[column]:
            yield f"the effect {effect['effect']} has another {column}"
    if "lines" in row and {"sku": effect["sku"], "quantity": effect["quantity"]} not in row["lines"]:
        yield f"the effect {effect['effect']} moved {effect['quantity']} × {effect['sku']}"


def _wrong_causes(facts: Facts, step: Step, order: str, effects: list[Row], events: list[EventFacts]) -> Iterator[str]:
    """Yield effects and events whose cause is not an event on which the step acts in this way."""
    undo = undo_causes(step.service)
    of_effect = {step.take: {step.command}, step.revert: undo, step.complete: {"OrderCompleted"}}
    for effect in effects:
        if not facts.is_id_of(effect["event_id"], order, of_effect.get(effect["effect"], ())):
            yield f"the effect {effect['effect']} has the cause {effect['event_id']}"
    of_event = {step.success: {step.command}, step.failure: {step.command}, step.undo: undo}
    for event in events:
        if not facts.is_id_of(event.cause, order, of_event.get(event.type, ())):
            yield f"{event.type} has the cause {event.cause}"


def _listed(names: Iterator[str]) -> str:
    return ", ".join(sorted(names)) or "none"
