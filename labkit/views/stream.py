"""The event stream: a live table of the records in Kafka, with filters and details."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from labkit.aliases import Aliases, end
from labkit.sources.records import RecordView
from labkit.views.drawing.timeline import UNDO_EVENTS
from labkit.views.feed import Feed, Observation, States
from labkit.views.live import LiveView, Page, script
from labstack.arguments import checked_class
from labstack.clients import broker

MAX_LINES = 500
"""The number of records that are kept; older ones are only counted."""

BATCH_LINES = 60
"""The maximum number of records in one message to the page; the newest are sent."""

MAX_TEXT_LENGTH = 4000
"""The maximum number of a record's characters that are shown."""

COLUMNS = ("time", "topic", "order", "type", "partition", "offset")


@dataclass(frozen=True)
class StreamLine:
    """One record of the table. Its cells are computed on demand, because its order may get a name later."""

    number: int
    observation: Observation
    record: broker.Record

    def cells(self, aliases: Aliases) -> tuple[str, ...]:
        """Return the content of the columns."""
        observation, record = self.observation, self.record
        clock = datetime.fromtimestamp(observation.at, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        order = aliases.known(observation.order_id) if observation.order_id else "-"
        return (clock, record.topic, order, observation.type or "?", str(record.partition), str(record.offset))

    def to_page(self, aliases: Aliases) -> dict[str, Any]:
        """Return the line in the page's format, with the record's headers and payload."""
        view = RecordView(self.record, aliases, naming=False)
        headers = "\n".join(f"{name}: {'-' if value is None else value}" for name, value in view.headers.items())
        value = json.dumps(view.value, indent=2, ensure_ascii=False)
        text = f"{headers}\n\n{value}"[:MAX_TEXT_LENGTH]
        return {
            "n": self.number,
            "cells": self.cells(aliases),
            "back": self.observation.type in UNDO_EVENTS,
            "whole": text,
        }


class StreamPage(Page):
    """The stream's widget."""

    _esm = script("stream.js")


@checked_class
class EventStream(LiveView):
    """The records of all topics of events and dead letters, newest first.

    Parameters
    ----------
    feed : Feed
        The source of observations.
    aliases : Aliases
        Names for the orders.
    """

    page_class = StreamPage
    title = "Event stream"

    def __init__(self, feed: Feed, aliases: Aliases) -> None:
        self._aliases = aliases
        self.count = 0
        """The number of records seen, including those that are no longer kept."""
        self._lines: deque[StreamLine] = deque(maxlen=MAX_LINES)
        self._new: deque[StreamLine] = deque(maxlen=BATCH_LINES)
        self._unnamed: deque[str] = deque(maxlen=BATCH_LINES)
        """Orders that the page has shown before they got their names."""
        super().__init__(feed)

    def apply(self, observations: list[Observation], states: States | None) -> None:
        for one in observations:
            if one.record is not None:
                self.count += 1
                line = StreamLine(self.count, one, one.record)
                self._lines.append(line)
                self._new.append(line)

    def _shown(self, lines: Iterable[StreamLine]) -> list[dict[str, Any]]:
        shown = []
        for line in lines:
            order = line.observation.order_id
            if order and order not in self._unnamed and self._aliases.known(order) == end(order):
                self._unnamed.append(order)
            shown.append(line.to_page(self._aliases))
        return shown

    def _new_names(self) -> dict[str, str]:
        """Return the names that orders got after the page had shown them, by the text that it shows."""
        names = {end(order): name for order in self._unnamed if (name := self._aliases.known(order)) != end(order)}
        if names:
            self._unnamed = deque((order for order in self._unnamed if end(order) not in names), maxlen=BATCH_LINES)
        return names

    def batch(self) -> dict[str, Any] | None:
        names = self._new_names()
        lines = self._shown(self._new)
        self._new.clear()
        return {"lines": lines, "named": names, "count": self.count} if lines or names else None

    def snapshot(self) -> dict[str, Any]:
        self._new.clear()
        return {"lines": self._shown(list(self._lines)[-BATCH_LINES:]), "count": self.count, "kept": MAX_LINES}

    def table(self, order: str = "", type: str = "", topic: str = "") -> pd.DataFrame:
        """Return the kept records, newest last.

        Parameters
        ----------
        order, type, topic : str
            Only records whose cell contains this text.
        """
        with self._lock:
            rows = [line.cells(self._aliases) for line in self._lines]
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        for column, wanted in (("order", order), ("type", type), ("topic", topic)):
            table = table[table[column].str.contains(wanted, regex=False)] if wanted else table
        return table.reset_index(drop=True)

    def words(self) -> str:
        return self.table().to_string(index=False)

    def __repr__(self) -> str:
        return (
            "The event stream: all records, the newest first. A click on a row shows its headers and payload.\n"
            "`stream.table(type='PaymentFailed')` returns the records of one type as a table."
        )
