"""The records of the topics, and the positions of their consumers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from labkit.client.shop import Order
from labkit.errors import KitError, WaitTimedOut
from labkit.inspect.scope import Orders, Scope
from labkit.sources import records as kafka_records
from labkit.sources.records import RecordView
from labstack import waiting
from labstack.arguments import Count, Seconds, Text, checked_class
from labstack.clients import broker, consumer_groups
from labstack.errors import one_of


@checked_class
class Topics:
    """Reads records, and the offsets of consumer groups.

    Parameters
    ----------
    scope : Scope
        The lab.

    Examples
    --------
    >>> look.kafka.records(order)
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    @property
    def topics(self) -> list[str]:
        """The topics of the events."""
        return self._scope.topics

    def take(
        self, n: Count, orders: Orders | None = None, topic: str | None = None, timeout: Seconds = 30
    ) -> list[RecordView]:
        """Return `n` records. Wait for those that are still in flight.

        Parameters
        ----------
        n : int
            The number of records; reading stops after the n-th.
        orders : Order, str or list, optional
            Only the records of these orders (or of this key).
        topic : str, optional
            Only the records of this topic.
        timeout : float
            Seconds, at most.
        """
        topics, keys = self._known(topic), self._keys(orders)
        return self._views(kafka_records.take(self._scope.endpoints.kafka, topics, n, keys=keys, timeout=timeout))

    def records(self, orders: Orders | None = None, topic: str | None = None) -> list[RecordView]:
        """Return the records that are there now."""
        found = broker.read_all(self._scope.endpoints.kafka, self._known(topic))
        keys = self._keys(orders)
        return self._views([record for record in found if kafka_records.wanted(record, keys)])

    def record(self, order: Order | str, event_type: str, timeout: Seconds = 30) -> RecordView:
        """Return an order's record of one type. Wait for it if necessary.

        Raises
        ------
        WaitTimedOut
            The order has no record of that type; the message lists the types that it has.
        """
        found: dict[str, RecordView] = {}

        def is_there() -> bool:
            for view in self.records(order):
                found.setdefault(view.record.type, view)
            return event_type in found

        if not waiting.poll_until(is_there, timeout, interval=0.05):
            (key,) = self._scope.keys(order)
            name = self._scope.aliases.tidy(key, "order")
            seen = ", ".join(found) or "no record"
            raise WaitTimedOut(
                f"Waited {timeout:g} s for a record {event_type!r} of {name}; it has {seen}.",
                next_step=f"{one_of(event_type, found, otherwise='place an order first')}; `lab` shows whether every "
                "component runs",
            )
        return found[event_type]

    def events(self, views: Iterable[RecordView]) -> pd.DataFrame:
        """Return records as a table: topic, order, type, event, and the event that caused it."""
        tidy = self._scope.aliases.tidy
        rows = [
            {
                "topic": view.record.topic,
                "order": tidy(view.record.key, "order"),
                "type": view.record.type,
                "event": tidy(view.record.headers.get("ce_id"), "event"),
                "cause": tidy(view.record.headers.get("causation_id") or "-", "cause"),
            }
            for view in views
        ]
        return pd.DataFrame(rows, columns=["topic", "order", "type", "event", "cause"])

    def offsets(self, group: Text, topic: Text) -> pd.DataFrame:
        """Return the offsets of a consumer group in a topic: a row for each partition.

        Parameters
        ----------
        group : str
            The group's name. A service's group has the name of the service.
        topic : str
            The topic.

        Returns
        -------
        DataFrame
            ``partition``; ``start``, the offset of the oldest record; ``committed``, the offset up to which the group
            has handled every record, NaN if it has committed none; ``end``, the offset of the next record.
        """
        kafka = self._scope.endpoints.kafka
        partitions = broker.partitions(kafka, self._known(topic))
        committed = consumer_groups.committed_offsets(kafka, group)
        starts, ends = broker.start_offsets(kafka, partitions), broker.end_offsets(kafka, partitions)
        rows = [
            (partition[1], starts[partition], committed.get(partition), ends[partition]) for partition in sorted(ends)
        ]
        return pd.DataFrame(rows, columns=["partition", "start", "committed", "end"])

    def consumer(self, service: str) -> dict[str, Any]:
        """Return the state of the consumer of a service, or of an additional version: state, group, partitions."""
        document: dict[str, Any] = self._scope.get(service, "/manage/consumer").json()
        return document

    def _views(self, found: list[broker.Record]) -> list[RecordView]:
        return [RecordView(record, self._scope.aliases) for record in kafka_records.in_order_of_cause(found)]

    def _keys(self, orders: Orders | None) -> set[str] | None:
        return None if orders is None else self._scope.keys(orders)

    def _known(self, topic: str | None) -> list[str]:
        """Return the topics to read: the one that is given, which must exist, else those of the events."""
        if topic is None:
            return self.topics
        # The topic of an extension service does not exist before its first event.
        if topic not in self.topics and not broker.partitions(self._scope.endpoints.kafka, [topic]):
            raise KitError(f"Unknown topic {topic[:60]!r}.", next_step=one_of(topic, self.topics))
        return [topic]
