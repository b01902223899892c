"""Send a load of orders through a lab, and measure how long each one takes until it is COMPLETED.

An order counts as COMPLETED when its `OrderCompleted` record reaches a consumer of `order.events`. That is one hop of
the relay later than the change of the order's row. There are three reasons to measure there: the record can't exist
before the row's transaction is committed, reading Kafka puts no load on the measured database, and the order has then
passed five hops, exactly like a record of the bare five-hop chain. The time of the row is reported, too: the record's
`ce_time` is the database's clock just before the commit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from confluent_kafka import Message

from benchmarks.arrivals import record_arrivals, text_headers, wait_for_all
from benchmarks.figures import Latency
from benchmarks.helper import helper
from benchmarks.load import Sent, place_orders
from labstack.backends.base import Endpoints

IN_TIME = 5.0
"""Seconds within which an order must be COMPLETED."""

COMPLETION_TIMEOUT = 10.0
"""Seconds without a new completion after which missing orders count as lost."""


@dataclass
class LoadResult:
    """The result of one load of orders.

    Attributes
    ----------
    rate : float
        Orders per second that were due.
    seconds : float
        How long orders were placed.
    sent : list of Sent
        The orders.
    took : float
        Seconds until the last of them was COMPLETED, or the wait timed out.
    row, record : dict
        Times at which each order's row became COMPLETED, and at which its record was read, by order.
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
        """Number of orders that were not answered with 201."""
        return len(self.sent) - len(self.accepted)

    @property
    def unfinished(self) -> int:
        """Number of orders that were accepted and never COMPLETED."""
        return sum(1 for one in self.accepted if one.order_id not in self.record)

    @property
    def late(self) -> int:
        """Number of orders that were COMPLETED too late."""
        return sum(1 for seconds in self.until_record if seconds > IN_TIME)

    @property
    def holds(self) -> bool:
        """Whether every order was accepted, and COMPLETED in time."""
        return bool(self.sent) and not (self.refused or self.unfinished or self.late)

    @property
    def until_record(self) -> list[float]:
        """Seconds from the time at which each order was due to the arrival of its record."""
        return [self.record[one.order_id] - one.due for one in self.accepted if one.order_id in self.record]

    @property
    def until_row(self) -> list[float]:
        """Seconds from the time at which each order was due to the change of its row."""
        return [self.row[one.order_id] - one.due for one in self.accepted if one.order_id in self.row]

    @property
    def until_answer(self) -> list[float]:
        """Seconds from the time at which each order was due to the response to its POST."""
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


def run_load(endpoints: Endpoints, rate: float, seconds: float, seed: int = 1) -> LoadResult:
    """Place orders at a rate for some seconds, and follow all of them until they are COMPLETED."""
    result = LoadResult(rate, seconds)
    start = time.monotonic()

    def on_arrival(message: Message, at: float) -> None:
        headers = text_headers(message)
        if headers.get("ce_type") in ("OrderCompleted", "OrderCancelled"):
            order_id = (message.key() or b"").decode()
            if headers["ce_type"] == "OrderCompleted":
                result.row.setdefault(order_id, datetime.fromisoformat(headers["ce_time"]).timestamp())
                result.record.setdefault(order_id, at)

    with record_arrivals(endpoints.kafka, ["order.events"], on_arrival):
        with helper(place_orders, endpoints.client("order"), rate, seconds, seed) as load:
            result.sent = load.result(seconds + 60)
        wait_for_all(lambda: len(result.record), len(result.accepted), COMPLETION_TIMEOUT)
    result.took = time.monotonic() - start
    return result
