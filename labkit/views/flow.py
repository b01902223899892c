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
from labkit.views.feed import Feed, Observation, States
from labkit.views.live import DrawnPage, LiveView
from labkit.waiting import wait_until
from labstack.arguments import Count, Seconds, checked_class

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
class EventInFlight:
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
    waiting: dict[str, EventInFlight] = field(default_factory=dict)
    latest: deque[EventInFlight] = field(default_factory=lambda: deque(maxlen=SHOWN))


@checked_class
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

    page_class = DrawnPage
    title = "Outbox flow"
    stopped_note = ""
    pulse = FRESH
    _latest: ClassVar[Flow | None] = None

    def __init__(self, feed: Feed, aliases: Aliases, seconds: float) -> None:
        if Flow._latest is not None:
            Flow._latest.stop()
        Flow._latest = self
        self.seconds = seconds
        self.lanes = {service: Lane() for service in feed.services}
        self._aliases = aliases
        self._events: Bounded[str, EventInFlight] = Bounded(REMEMBERED)
        self._last_html = ""
        self._deadline = time.monotonic() + seconds
        self._end = threading.Timer(seconds, self.stop)
        super().__init__(feed)

    def _start(self) -> None:
        """Listen for the rest of the time. A page that is opened later does not start the view again."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            return
        super()._start()
        self._end = threading.Timer(left, self.stop)
        self._end.daemon = True
        self._end.start()

    def stop(self) -> None:
        self._end.cancel()
        super().stop()

    def wait(self, records: Count, timeout: Seconds = 30) -> None:
        """Wait until the view has seen `records` records with their rows, and no row is waiting."""

        def all_published() -> bool:
            with self._lock:
                lanes = self.lanes.values()
                complete = sum(min(lane.rows, lane.records) for lane in lanes)
                return complete >= records and not any(lane.waiting for lane in lanes)

        wait_until(all_published, min(timeout, self.seconds), what=f"{records} records in the view")

    # -- observations ----------------------------------------------------------------------------------------------

    def apply(self, observations: list[Observation], states: States | None) -> None:
        for one in observations:
            if one.stage == "row":
                self._apply_row(one)
            elif one.stage == "record":
                self._apply_record(one)

    def _apply_row(self, observation: Observation) -> None:
        event = self._event(observation)
        if event is None or event.row:
            return
        event.row, event.changed = True, time.monotonic()
        lane = self.lanes[observation.service]
        lane.rows += 1
        if not event.record:
            lane.waiting[observation.event_id] = event

    def _apply_record(self, observation: Observation) -> None:
        event = self._event(observation)
        if event is None or event.record:
            return  # a duplicate: delivery is at least once
        event.record, event.changed = True, time.monotonic()
        lane = self.lanes[observation.service]
        lane.records += 1
        if not event.row:  # a record proves its row, which may be deleted already, or not seen yet
            event.row = True
            lane.rows += 1
        lane.waiting.pop(observation.event_id, None)
        lane.latest.appendleft(event)

    def _event(self, observation: Observation) -> EventInFlight | None:
        """Return the event of an observation; None if its record had arrived before this view listened."""
        known = self._events.get(observation.event_id)
        if known is None:
            if observation.service not in self.lanes or (
                observation.stage == "row" and self._feed.was_published(observation.event_id)
            ):
                return None
            known = self._events[observation.event_id] = EventInFlight(
                observation.service, observation.type, observation.order_id
            )
        return known

    # -- showing ---------------------------------------------------------------------------------------------------

    def batch(self) -> dict[str, Any] | None:
        previous, self._last_html = self._last_html, self.html()
        return {"html": self._last_html} if self._last_html != previous else None

    def snapshot(self) -> dict[str, Any]:
        return {"html": self.html()}

    def words(self) -> str:
        with self._lock:
            lines = [f"{'service':<10} {'outbox rows':>11}   {'records':>7}   {'waiting':>7}"]
            for service, lane in self.lanes.items():
                lines.append(f"{service:<10} {lane.rows:>11} → {lane.records:>7}   {len(lane.waiting):>7}")
            return "\n".join([*lines, *sorted(self._feed.errors.values())])

    def html(self) -> str:
        """Return the observations so far as HTML."""
        head = (
            "<tr><th style='text-align:left'>service</th><th style='text-align:right'>rows that wait in the outbox</th>"
            "<th></th><th style='text-align:left'>latest records in Kafka</th></tr>"
        )
        with self._lock:
            body = "".join(self._lane(service, lane) for service, lane in self.lanes.items())
            summary = html.escape(self.summary(), quote=True)
        return (
            f"<figure role='img' aria-label='{summary}' style='margin:0'>"
            f"<table style='width:100%;border-collapse:collapse'><thead>{head}</thead><tbody>{body}</tbody></table>"
            f"<figcaption><small><span style='color:{ORANGE}'>■</span> ◌ committed, waits for Debezium &nbsp; "
            f"<span style='color:{BLUE}'>■</span> ● a record in Kafka</small></figcaption></figure>"
        )

    def summary(self) -> str:
        """Return the observations so far in one sentence for each service, as alt text."""
        with self._lock:
            descriptions = [
                f"{service}: {lane.rows} outbox rows, {lane.records} records in Kafka, {len(lane.waiting)} waiting"
                for service, lane in self.lanes.items()
            ]
        return "Outbox flow. " + ". ".join(descriptions) + "."

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

    def _chip(self, event: EventInFlight, colour: str, sign: str) -> str:
        fresh = "font-weight:bold" if self.live and time.monotonic() - event.changed < FRESH else ""
        text = f"{sign} {event.type} · {self._aliases.known(event.order_id)}"
        return f"<span style='{CHIP.format(colour=colour, more=fresh)}'>{html.escape(text)}</span>"

    def __repr__(self) -> str:
        return (
            f"Live view for {self.seconds:g} s: rows of the four outbox tables on the left become records in Kafka "
            "on the right.\n`print(flow.text())` shows the same as text."
        )
