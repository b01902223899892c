"""A customer's request, and what the learner's code stored for it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labkit.build.workplace import Workplace

FUNCTION = "request_return"
TOPIC = "RETURNS_TOPIC"
"""The environment variable with the topic to which a relay would publish the events."""


@dataclass(frozen=True)
class Request:
    """The arguments of one call of the learner's function."""

    order_id: str
    customer_id: str
    lines: list[dict[str, Any]]
    traceparent: str

    @classmethod
    def new(cls, customer: str = "ada", quantity: int = 3) -> Request:
        """Return a request for a new order."""
        lines = [{"sku": "earl-grey", "quantity": quantity, "unit_price_cents": 890}]
        return cls(str(uuid.uuid4()), customer, lines, f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01")

    @property
    def arguments(self) -> list[Any]:
        """The arguments in their order."""
        return [self.order_id, self.customer_id, self.lines, self.traceparent]


@dataclass(frozen=True)
class Stored:
    """What the learner's code left behind for one order: rows in returns and outbox, and records in the topic."""

    returns: list[dict[str, Any]]
    events: list[dict[str, Any]]
    records: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """The numbers of returns, events and records."""
        return len(self.returns), len(self.events), self.records

    def __str__(self) -> str:
        text = f"{len(self.returns)} in returns, {len(self.events)} in outbox"
        return f"{text}, {self.records} written to Kafka directly" if self.records else text


def stored(place: Workplace, orders: Sequence[str]) -> dict[str, Stored]:
    """Return what is stored for each of these orders."""
    returns = place.rows("SELECT * FROM returns")
    events = place.rows("SELECT *, pg_typeof(payload)::text AS payload_type FROM outbox")
    texts = [json.dumps(event, default=str) for event in events]
    records = [str(record.value) for record in place.records(place.environment[TOPIC])]
    found = {}
    for order in orders:
        rows = [row for row in returns if str(row["order_id"]) == order]
        names = (order, *(str(row["return_id"]) for row in rows))
        mine = [event for event, text in zip(events, texts, strict=True) if any(name in text for name in names)]
        found[order] = Stored(rows, mine, sum(any(name in text for name in names) for text in records))
    return found


def payload_of(event: dict[str, Any]) -> tuple[Any, int]:
    """Return the decoded payload of an event, and how many times it was encoded as JSON too often."""
    payload, depth = event["payload"], 0
    if isinstance(payload, bytes | memoryview):
        payload = bytes(payload).decode(errors="replace")
    if event["payload_type"] not in ("json", "jsonb"):
        depth -= 1  # a column of text or bytes holds the encoded payload
    while isinstance(payload, str):
        try:
            payload, depth = json.loads(payload), depth + 1
        except ValueError:
            break
    return payload, depth


def raise_errors(place: Workplace, function: str) -> None:
    """Call a function of the learner's file, and raise the error with which it failed."""
    program = place.start_call(function)
    if program.wait() or program.results[0].error:
        raise program.failure(f"failed in {function}()")
