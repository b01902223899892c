"""The records of the topics, and the positions of their consumers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from labkit.client.shop import Order
from labkit.errors import KitError
from labkit.inspect.scope import Orders, Scope
from labkit.inspect.sources import records as kafka_records
from labkit.inspect.sources.records import RecordView
from labkit.waiting import wait_until
from labstack.clients import broker


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
        self, n: int, orders: Orders | None = None, topic: str | None = None, timeout: float = 30
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
        topics = [topic] if topic else self.topics
        keys = self._keys(orders)
        return self._views(kafka_records.take(self._scope.endpoints.kafka, topics, n, keys=keys, timeout=timeout))

    def records(self, orders: Orders | None = None, topic: str | None = None) -> list[RecordView]:
        """Return the records that are there now."""
        found = broker.read_all(self._scope.endpoints.kafka, [topic] if topic else self.topics)
        keys = self._keys(orders)
        return self._views([record for record in found if kafka_records.wanted(record, keys)])

    def record(self, order: Order | str, event_type: str, timeout: float = 30) -> RecordView:
        """Return an order's record of one type. Wait for it if necessary."""

        def find() -> RecordView | None:
            return next((view for view in self.records(order) if view.record.type == event_type), None)

        view = wait_until(find, timeout, what=f"a record {event_type}")
        assert view is not None  # wait_until raises instead
        return view

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

    def offsets(self, group: str, topic: str) -> pd.DataFrame:
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
        partitions = broker.partitions(kafka, [topic])
        if not partitions:
            raise KitError(f"There is no topic {topic!r}.", next_step=f"the shop's are {', '.join(self.topics)}")
        committed = broker.committed_offsets(kafka, group)
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
        return None if orders is None else self._scope.order_ids(orders)
