"""The event stream: a table of the records in Kafka as they come, to filter and to look into."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from labkit.aliases import Aliases
from labkit.records import RecordView
from labkit.views.feed import Feed, Seen, States
from labkit.views.live import LiveView, Page, script
from labkit.views.timeline import UNDOING

KEPT = 500
"""Records that are kept; older ones only count."""

AT_ONCE = 60
"""Records that one message to the page holds; of more the newest."""

LONGEST = 4000
"""Characters of a record that are shown."""

COLUMNS = ("time", "topic", "order", "type", "partition", "offset")


@dataclass(frozen=True)
class Line:
    """One record of the table."""

    number: int
    cells: tuple[str, ...]
    goes_back: bool
    whole: str

    def to_page(self) -> dict[str, Any]:
        """Return it as the page takes it."""
        return {"n": self.number, "cells": self.cells, "back": self.goes_back, "whole": self.whole}


class StreamPage(Page):
    """The table's part in the page."""

    _esm = script("stream.js")


class EventStream(LiveView):
    """The records of all topics of events and dead letters, the newest above.

    Parameters
    ----------
    feed : Feed
        What happens.
    aliases : Aliases
        Names for the orders.
    """

    page_class = StreamPage

    def __init__(self, feed: Feed, aliases: Aliases) -> None:
        self._aliases = aliases
        self.count = 0
        """Records seen, those among them that are no longer kept."""
        self._lines: deque[Line] = deque(maxlen=KEPT)
        self._new: deque[Line] = deque(maxlen=AT_ONCE)
        super().__init__(feed)

    def take(self, seen: list[Seen], states: States | None) -> None:
        for one in seen:
            if one.record is not None:
                self.count += 1
                line = self._line(one)
                self._lines.append(line)
                self._new.append(line)

    def _line(self, one: Seen) -> Line:
        record = one.record
        assert record is not None
        clock = datetime.fromtimestamp(one.at, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        order = self._aliases.known(one.order_id) if one.order_id else "-"
        cells = (clock, record.topic, order, one.type or "?", str(record.partition), str(record.offset))
        view = RecordView(record, self._aliases)
        headers = "\n".join(f"{name}: {'-' if value is None else value}" for name, value in view.headers.items())
        value = json.dumps(view.value, indent=2, ensure_ascii=False)
        return Line(self.count, cells, one.type in UNDOING, f"{headers}\n\n{value}"[:LONGEST])

    def batch(self) -> dict[str, Any] | None:
        if not self._new:
            return None
        lines = [line.to_page() for line in self._new]
        self._new.clear()
        return {"lines": lines, "count": self.count}

    def whole(self) -> dict[str, Any]:
        self._new.clear()
        return {"lines": [line.to_page() for line in list(self._lines)[-AT_ONCE:]], "count": self.count, "kept": KEPT}

    def table(self, order: str = "", type: str = "", topic: str = "") -> pd.DataFrame:
        """Return the records that are kept, the newest last.

        Parameters
        ----------
        order, type, topic : str
            Only those whose cell holds this.
        """
        with self._lock:
            rows = [line.cells for line in self._lines]
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        for column, wanted in (("order", order), ("type", type), ("topic", topic)):
            table = table[table[column].str.contains(wanted, regex=False)] if wanted else table
        return table.reset_index(drop=True)

    def text(self) -> str:
        return self.table().to_string(index=False)

    def __repr__(self) -> str:
        return (
            "The event stream: records as they come into Kafka, the newest above; a click shows headers and payload.\n"
            "stream.table(type='PaymentFailed') gives those that are kept as a table."
        )
