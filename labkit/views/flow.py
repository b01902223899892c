"""The live view of the outbox flow: rows of the four outbox tables become records in Kafka."""

from __future__ import annotations

import html
import threading
import time
from typing import Any

from labkit.aliases import Aliases
from labkit.views.drawing.colours import BLUE, ORANGE
from labkit.views.watch import FRESH, Lane, Passing, Watch
from labkit.waiting import wait_until
from labstack.backends.base import Endpoints

SHOWN = 3
"""The number of events shown one by one on each side of a lane; the others are only counted."""

CHIP = (
    "display:inline-block;border:2px solid {colour};border-radius:0.4em;padding:0 0.4em;margin:1px 2px;"
    "white-space:nowrap;font-size:85%;{more}"
)
CELL = "padding:0.25em 0.5em;border-top:1px solid var(--jp-border-color2,#bbb);"
REDRAWN_EVERY = 0.15


class Flow:
    """Rows of the outbox tables becoming records, live.

    In a notebook the flow is a live view; `text` gives the same content in words at any moment. Only one flow is live
    at a time: a new one stops the previous one.

    Parameters
    ----------
    where : Endpoints
        The lab's endpoints.
    aliases : Aliases
        Names for the orders.
    seconds : float
        The duration of the view.
    """

    _live: Flow | None = None

    def __init__(self, where: Endpoints, aliases: Aliases, seconds: float) -> None:
        if Flow._live is not None:
            Flow._live.stop()
        Flow._live = self
        self.seconds = seconds
        self._aliases = aliases
        self._widget: Any = None
        self._drawn = 0.0
        self._drawing = threading.Lock()
        self.watch = Watch(where, seconds, self._redraw)

    def stop(self) -> None:
        """Stop watching; the observations so far remain."""
        self.watch.stop()

    def wait(self, records: int, timeout: float = 30) -> None:
        """Wait until the view has seen `records` records with their rows, and no row is waiting."""

        def all_there() -> bool:
            lanes = self.watch.look().values()
            seen = sum(min(lane.rows, lane.records) for lane in lanes)
            return seen >= records and not any(lane.waiting for lane in lanes)

        wait_until(all_there, min(timeout, self.seconds), what=f"{records} records in the view")

    def text(self) -> str:
        """Return the observations so far as text."""
        lanes = self.watch.look()
        lines = [f"{'service':<10} {'outbox rows':>11}   {'records':>7}   {'waiting':>7}"]
        for service, lane in lanes.items():
            lines.append(f"{service:<10} {lane.rows:>11} → {lane.records:>7}   {len(lane.waiting):>7}")
        if self.watch.trouble:
            lines.append(self.watch.trouble)
        return "\n".join(lines)

    def html(self) -> str:
        """Return the observations so far as HTML."""
        lanes = self.watch.look()
        state = "live" if self.watch_is_on() else f"over (it ran for at most {self.seconds:g} s)"
        head = (
            "<tr><th style='text-align:left'>service</th><th style='text-align:right'>rows that wait in the outbox</th>"
            "<th></th><th style='text-align:left'>latest records in Kafka</th></tr>"
        )
        body = "".join(self._lane(service, lane) for service, lane in lanes.items())
        trouble = f"<p>{html.escape(self.watch.trouble)}</p>" if self.watch.trouble else ""
        return (
            f"<figure role='img' aria-label='{html.escape(self.spoken(), quote=True)}' style='margin:0'>"
            f"<table style='width:100%;border-collapse:collapse'><thead>{head}</thead><tbody>{body}</tbody></table>"
            f"<figcaption><small><span style='color:{ORANGE}'>■</span> ◌ committed, waits for Debezium &nbsp; "
            f"<span style='color:{BLUE}'>■</span> ● a record in Kafka &nbsp; · {state}</small></figcaption>"
            f"{trouble}</figure>"
        )

    def spoken(self) -> str:
        """Return the observations so far in one sentence for each service, as alt text."""
        lanes = self.watch.look()
        told = [
            f"{service}: {lane.rows} outbox rows, {lane.records} records in Kafka, {len(lane.waiting)} waiting"
            for service, lane in lanes.items()
        ]
        return "Outbox flow. " + ". ".join(told) + "."

    def _lane(self, service: str, lane: Lane) -> str:
        waiting = list(lane.waiting.values())
        more = f"<small>+ {len(waiting) - SHOWN} more </small>" if len(waiting) > SHOWN else ""
        left = more + "".join(self._chip(event, ORANGE, "◌") for event in waiting[:SHOWN][::-1])
        right = "".join(self._chip(event, BLUE, "●") for event in list(lane.latest)[:SHOWN])
        return (
            f"<tr><td style='{CELL}text-align:left;white-space:nowrap'><b>{html.escape(service)}</b></td>"
            f"<td style='{CELL}text-align:right;width:30%;height:2.2em'>{left}</td>"
            f"<td style='{CELL}text-align:center;white-space:nowrap'>"
            f"{lane.rows} → <b>Debezium</b> → {lane.records}</td>"
            f"<td style='{CELL}text-align:left;width:54%'>{right}</td></tr>"
        )

    def _chip(self, event: Passing, colour: str, sign: str) -> str:
        just_now = self.watch_is_on() and time.monotonic() - event.changed < FRESH
        fresh = "font-weight:bold" if just_now else ""
        words = f"{sign} {event.type} · {self._aliases.known(event.order_id)}"
        return f"<span style='{CHIP.format(colour=colour, more=fresh)}'>{html.escape(words)}</span>"

    def _redraw(self) -> None:
        """Redraw, unless the view is not shown or was drawn just now; called from the watching thread."""
        widget = self._widget
        ended = not self.watch_is_on()
        if widget is None or (time.monotonic() - self._drawn < REDRAWN_EVERY and not ended):
            return
        if widget.comm is None:  # the widget was closed
            self.watch.stop()
            return
        with self._drawing:
            widget.value = self.html()
            self._drawn = time.monotonic()

    def watch_is_on(self) -> bool:
        """Return whether the flow is still watching."""
        watch = getattr(self, "watch", None)  # the thread may call before the constructor has finished
        return watch is None or not watch.ended

    def __repr__(self) -> str:
        return (
            f"Live view for {self.seconds:g} s: rows of the four outbox tables on the left become records in Kafka "
            "on the right.\nprint(flow.text()) says in words what it has seen."
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        from ipywidgets import HTML

        if self._widget is None:
            self._widget = HTML(self.html())
            self._widget.layout.width = "100%"
        shown: dict[str, Any] = self._widget._repr_mimebundle_()
        return {**shown, "text/plain": repr(self)}
