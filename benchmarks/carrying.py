"""Carry a load of orders through a lab, and see how long each one took until it was COMPLETED.

An order counts as COMPLETED when its `OrderCompleted` record reaches a consumer of `order.events`. That is later than
the moment when the order's row says so, by one hop of the relay. It is measured there because the record can't exist
before the row's transaction is committed, because reading Kafka puts no load upon the database that is measured, and
because the order then has gone through five hops, exactly like a record of the bare five-hop chain. When the row
itself was written is told, too: the record's `ce_time` is the database's clock just before the commit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from confluent_kafka import Message

from benchmarks.figures import Latency
from benchmarks.helper import helper
from benchmarks.load import Sent, place_orders
from benchmarks.watching import text_headers, wait_for_all, watching
from labstack.backend import Endpoints

IN_TIME = 5.0
"""Seconds within which an order must be COMPLETED."""

PATIENCE = 10.0
"""Seconds without any news after which the orders that are still missing count as lost."""


@dataclass
class Carried:
    """What became of one load of orders.

    Attributes
    ----------
    rate : float
        Orders per second that were due.
    sent : list of Sent
        The orders.
    took : float
        Seconds until the last of them had come to its end.
    row, record : dict
        When each order's row said COMPLETED, and when its record was read, by order.
    """

    rate: float
    seconds: float
    took: float = 0.0
    sent: list[Sent] = field(default_factory=list)
    row: dict[str, float] = field(default_factory=dict)
    record: dict[str, float] = field(default_factory=dict)

    @property
    def accepted(self) -> list[Sent]:
        return [one for one in self.sent if one.status == 201]

    @property
    def refused(self) -> int:
        """How many were not answered with 201."""
        return len(self.sent) - len(self.accepted)

    @property
    def unfinished(self) -> int:
        """How many were accepted and never COMPLETED."""
        return sum(1 for one in self.accepted if one.order_id not in self.record)

    @property
    def late(self) -> int:
        """How many were COMPLETED later than they should be."""
        return sum(1 for seconds in self.until_record if seconds > IN_TIME)

    @property
    def holds(self) -> bool:
        """Whether every single order was accepted, and COMPLETED in time."""
        return bool(self.sent) and not (self.refused or self.unfinished or self.late)

    @property
    def until_record(self) -> list[float]:
        """Seconds from the moment when each order was due to its record's arrival."""
        return [self.record[one.order_id] - one.due for one in self.accepted if one.order_id in self.record]

    @property
    def until_row(self) -> list[float]:
        """Seconds from the moment when each order was due to its row's change."""
        return [self.row[one.order_id] - one.due for one in self.accepted if one.order_id in self.row]

    @property
    def until_answer(self) -> list[float]:
        """Seconds from the moment when each order was due to the answer of the POST."""
        return [one.answered - one.due for one in self.accepted]

    def to_json(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "seconds": self.seconds,
            "orders": len(self.sent),
            "holds": self.holds,
            "refused": self.refused,
            "unfinished": self.unfinished,
            "late": self.late,
            "until_answer_ms": Latency.of(self.until_answer),
            "until_row_completed_ms": Latency.of(self.until_row),
            "until_record_consumed_ms": Latency.of(self.until_record),
        }


def carry(where: Endpoints, rate: float, seconds: float, seed: int = 1) -> Carried:
    """Place orders at a rate for some seconds, and follow all of them to their end."""
    carried = Carried(rate, seconds)
    begin = time.monotonic()

    def take(message: Message, at: float) -> None:
        headers = text_headers(message)
        if headers.get("ce_type") in ("OrderCompleted", "OrderCancelled"):
            order_id = (message.key() or b"").decode()
            if headers["ce_type"] == "OrderCompleted":
                carried.row.setdefault(order_id, datetime.fromisoformat(headers["ce_time"]).timestamp())
                carried.record.setdefault(order_id, at)

    with watching(where.kafka, ["order.events"], take):
        with helper(place_orders, where.client("order"), rate, seconds, seed) as load:
            carried.sent = load.result(seconds + 60)
        wait_for_all(lambda: len(carried.record), len(carried.accepted), PATIENCE)
    carried.took = time.monotonic() - begin
    return carried
