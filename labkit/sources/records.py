"""Kafka records in a notebook. A read joins no consumer group and always ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from labkit.aliases import Aliases
from labkit.errors import WaitTimedOut
from labservices.contract import OUTCOMES
from labstack.clients import broker, probe_event

DEPTH_LIMIT = 50


class RecordView:
    """One record: topic, key, headers and value, with short names for the ids.

    Parameters
    ----------
    record : labstack.clients.broker.Record
        The record.
    aliases : Aliases
        Names for the ids.
    naming : bool
        Whether ids without a name get one; otherwise their ends are shown.
    """

    def __init__(self, record: broker.Record, aliases: Aliases, *, naming: bool = True) -> None:
        self.record = record
        self._tidy = partial(aliases.tidy, naming=naming)

    @property
    def headers(self) -> dict[str, str | None]:
        """The headers, with short names for the ids."""
        return {name: self._tidy(value, name) for name, value in sorted(self.record.headers.items())}

    @property
    def value(self) -> Any:
        """The event's payload, with short names for the ids; text if the payload is not JSON."""
        payload = self.record.value or b"null"
        try:
            document = json.loads(payload)
        except ValueError:
            document = payload.decode(errors="replace")
        return self._tidy(document)

    def __repr__(self) -> str:
        width = max((len(name) for name in self.record.headers), default=0)
        headers = [f"  {name:<{width}}  {'-' if value is None else value}" for name, value in self.headers.items()]
        value = json.dumps(self.value, indent=2, ensure_ascii=False)
        key = self._tidy(self.record.key, "key")
        return "\n".join([f"topic  {self.record.topic}", f"key    {key}", "headers", *headers, "value", value])


def take(
    kafka: str, topics: Iterable[str], n: int, *, keys: set[str] | None = None, timeout: float = 20
) -> list[broker.Record]:
    """Return the first `n` records of these topics and keys. Wait for records that have not arrived yet.

    Parameters
    ----------
    kafka : str
        Bootstrap server.
    topics : iterable of str
        The topics to read.
    n : int
        The number of records; reading stops after the n-th.
    keys : set of str, optional
        Only records with these keys.
    timeout : float
        Seconds, at most.

    Raises
    ------
    WaitTimedOut
        Fewer than `n` records arrived in time; the message lists them.
    """
    starts = broker.start_offsets(kafka, broker.partitions(kafka, topics))
    found: list[broker.Record] = []
    deadline = time.monotonic() + timeout
    with broker.reading(kafka, starts) as consumer:
        while len(found) < n:
            record = broker.poll(consumer, min(0.2, max(0.0, deadline - time.monotonic())))
            if record is not None and wanted(record, keys):
                found.append(record)
            elif record is None and time.monotonic() >= deadline:
                seen = ", ".join(sorted(r.type for r in found)) or "none"
                raise WaitTimedOut(
                    f"Waited {timeout:g} s for {n} records, and {len(found)} came: {seen}.",
                    next_step="`lab` shows whether Connect and every service run",
                )
    return found


def wanted(record: broker.Record, keys: set[str] | None) -> bool:
    """Return whether a record has one of these keys and is not one of the lab's probe events."""
    return record.type != probe_event.TYPE and (keys is None or record.key in keys)


def in_order_of_cause(records: Iterable[broker.Record]) -> list[broker.Record]:
    """Sort records by order, and each order's records by cause and effect; the saga's outcome is last.

    Times do not give this order: two services that react to the same event race, and the winner differs between runs.
    The cause of OrderCancelled is the answer that the order service handled last. Another service may have published
    a later one, because answers come from three topics.
    """
    listed = list(records)
    causes = {r.headers.get("ce_id"): r.headers.get("causation_id") for r in listed}

    def depth(record: broker.Record) -> int:
        steps, cause = 0, record.headers.get("causation_id")
        while cause in causes and steps < DEPTH_LIMIT:
            steps, cause = steps + 1, causes[cause]
        return steps

    def is_outcome(record: broker.Record) -> bool:
        return record.type in OUTCOMES

    return sorted(listed, key=lambda r: (r.key or "", is_outcome(r), depth(r), r.topic, r.partition, r.offset))
