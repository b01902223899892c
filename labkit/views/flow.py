"""The live view of the outbox flow: rows of the four outbox tables become records in Kafka."""

from __future__ import annotations

import html
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, ClassVar

from labkit.aliases import Aliases
from labkit.views.bounded import Bounded
from labkit.views.drawing.colours import BLUE, ORANGE
from labkit.views.feed import Feed, Seen, States
from labkit.views.live import LiveView, Page, script
from labkit.waiting import wait_until

SHOWN = 3
"""The number of events shown one by one on each side of a lane; the others are only counted."""

FRESH = 1.0
"""Seconds for which a change counts as new."""

REMEMBERED = 4000
"""The number of events that are remembered one by one; older ones are only counted."""

CHIP = (
    "display:inline-block;border:2px solid {colour};border-radius:0.4em;padding:0 0.4em;margin:1px 2px;"
    "white-space:nowrap;font-size:85%;{more}"
)
CELL = "padding:0.25em 0.5em;border-top:1px solid var(--jp-border-color2,#bbb);"


@dataclass
class Passing:
    """One event in flight.

    Attributes
    ----------
    row : bool
        Whether its row was seen in the outbox, or inferred from its record.
    record : bool
        Whether its record was seen in the topic.
    changed : float
        The time of the last change (monotonic seconds).
    """

    service: str
    type: str
    order_id: str
    row: bool = False
    record: bool = False
    changed: float = 0.0


@dataclass
class Lane:
    """The observations of one service: the number of rows and records, the waiting rows, and the latest records."""

    rows: int = 0
    records: int = 0
    waiting: dict[str, Passing] = field(default_factory=dict)
    latest: deque[Passing] = field(default_factory=lambda: deque(maxlen=SHOWN))


class FlowPage(Page):
    """The flow's widget."""

    _esm = script("flow.js")


class Flow(LiveView):
    """Rows of the outbox tables becoming records, live.

    In a notebook the flow is a live view; `text` gives the same content in words at any moment. Only one flow is live
    at a time: a new one stops the previous one.

    Parameters
    ----------
    feed : Feed
        The source of observations.
    aliases : Aliases
        Names for the orders.
    seconds : float
        The duration of the view.
    """

    page_class = FlowPage
    pulse = FRESH
    _latest: ClassVar[Flow | None] = None

    def __init__(self, feed: Feed, aliases: Aliases, seconds: float) -> None:
        if Flow._latest is not None:
            Flow._latest.stop()
        Flow._latest = self
        self.seconds = seconds
        self.lanes = {service: Lane() for service in feed.services}
        self._aliases = aliases
        self._events: Bounded[str, Passing] = Bounded(REMEMBERED)
        self._drawn = ""
        self._deadline = time.monotonic() + seconds
        super().__init__(feed)

    def _begin(self) -> None:
        """Listen for the rest of the time. A page that is opened later does not start the view again."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            return
        super()._begin()
        timer = threading.Timer(left, self.stop)
        timer.name, timer.daemon = "labkit-flow-end", True
        timer.start()

    def wait(self, records: int, timeout: float = 30) -> None:
        """Wait until the view has seen `records` records with their rows, and no row is waiting."""

        def all_there() -> bool:
            with self._lock:
                lanes = self.lanes.values()
                seen = sum(min(lane.rows, lane.records) for lane in lanes)
                return seen >= records and not any(lane.waiting for lane in lanes)

        wait_until(all_there, min(timeout, self.seconds), what=f"{records} records in the view")

    # -- observations ----------------------------------------------------------------------------------------------

    def take(self, seen: list[Seen], states: States | None) -> None:
        for one in seen:
            if one.stage == "row":
                self._take_row(one)
            elif one.stage == "record":
                self._take_record(one)

    def _take_row(self, seen: Seen) -> None:
        event = self._event(seen)
        if event is None or event.row:
            return
        event.row, event.changed = True, time.monotonic()
        lane = self.lanes[seen.service]
        lane.rows += 1
        if not event.record:
            lane.waiting[seen.event_id] = event

    def _take_record(self, seen: Seen) -> None:
        event = self._event(seen)
        if event is None or event.record:
            return  # a duplicate: delivery is at least once
        event.record, event.changed = True, time.monotonic()
        lane = self.lanes[seen.service]
        lane.records += 1
        if not event.row:  # a record proves its row, which may be deleted already, or not seen yet
            event.row = True
            lane.rows += 1
        lane.waiting.pop(seen.event_id, None)
        lane.latest.appendleft(event)

    def _event(self, seen: Seen) -> Passing | None:
        """Return the event of an observation; None if its record had arrived before this view listened."""
        known = self._events.get(seen.event_id)
        if known is None:
            if seen.service not in self.lanes or (seen.stage == "row" and self._feed.was_published(seen.event_id)):
                return None
            known = self._events[seen.event_id] = Passing(seen.service, seen.type, seen.order_id)
        return known

    # -- showing ---------------------------------------------------------------------------------------------------

    def batch(self) -> dict[str, Any] | None:
        drawn, self._drawn = self._drawn, self.html()
        return {"html": self._drawn} if self._drawn != drawn else None

    def whole(self) -> dict[str, Any]:
        return {"html": self.html()}

    def text(self) -> str:
        with self._lock:
            lines = [f"{'service':<10} {'outbox rows':>11}   {'records':>7}   {'waiting':>7}"]
            for service, lane in self.lanes.items():
                lines.append(f"{service:<10} {lane.rows:>11} → {lane.records:>7}   {len(lane.waiting):>7}")
            return "\n".join([*lines, *sorted(self._feed.trouble.values())])

    def html(self) -> str:
        """Return the observations so far as HTML."""
        head = (
            "<tr><th style='text-align:left'>service</th><th style='text-align:right'>rows that wait in the outbox</th>"
            "<th></th><th style='text-align:left'>latest records in Kafka</th></tr>"
        )
        with self._lock:
            body = "".join(self._lane(service, lane) for service, lane in self.lanes.items())
            spoken = html.escape(self.spoken(), quote=True)
        return (
            f"<figure role='img' aria-label='{spoken}' style='margin:0'>"
            f"<table style='width:100%;border-collapse:collapse'><thead>{head}</thead><tbody>{body}</tbody></table>"
            f"<figcaption><small><span style='color:{ORANGE}'>■</span> ◌ committed, waits for Debezium &nbsp; "
            f"<span style='color:{BLUE}'>■</span> ● a record in Kafka</small></figcaption></figure>"
        )

    def spoken(self) -> str:
        """Return the observations so far in one sentence for each service, as alt text."""
        with self._lock:
            told = [
                f"{service}: {lane.rows} outbox rows, {lane.records} records in Kafka, {len(lane.waiting)} waiting"
                for service, lane in self.lanes.items()
            ]
        return "Outbox flow. " + ". ".join(told) + "."

    def _lane(self, service: str, lane: Lane) -> str:
        waiting = list(lane.waiting.values())
        more = f"<small>+ {len(waiting) - SHOWN} more </small>" if len(waiting) > SHOWN else ""
        left = more + "".join(self._chip(event, ORANGE, "◌") for event in waiting[:SHOWN][::-1])
        right = "".join(self._chip(event, BLUE, "●") for event in lane.latest)
        return (
            f"<tr><td style='{CELL}text-align:left;white-space:nowrap'><b>{html.escape(service)}</b></td>"
            f"<td style='{CELL}text-align:right;width:30%;height:2.2em'>{left}</td>"
            f"<td style='{CELL}text-align:center;white-space:nowrap'>"
            f"{lane.rows} → <b>Debezium</b> → {lane.records}</td>"
            f"<td style='{CELL}text-align:left;width:54%'>{right}</td></tr>"
        )

    def _chip(self, event: Passing, colour: str, sign: str) -> str:
        fresh = "font-weight:bold" if self.live and time.monotonic() - event.changed < FRESH else ""
        words = f"{sign} {event.type} · {self._aliases.known(event.order_id)}"
        return f"<span style='{CHIP.format(colour=colour, more=fresh)}'>{html.escape(words)}</span>"

    def __repr__(self) -> str:
        return (
            f"Live view for {self.seconds:g} s: rows of the four outbox tables on the left become records in Kafka "
            "on the right.\nprint(flow.text()) says in words what it has seen."
        )
