"""The saga's timeline of one order: a lane for each service, from the outbox rows, the records and the inboxes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from labkit.errors import database_errors
from labkit.views.drawing.colours import SERVICES
from labkit.views.drawing.svg import TEXT, Picture
from labstack.arguments import checked_class
from labstack.clients import broker
from labstack.clients.databases import connect

LANE, GAP = 84, 6
"""The height of a lane in pixels, and the part of it that is the gap to the next lane."""
NAME_ROWS = (-12, 22, -26, 34)
"""Where a name may stand, in pixels above or below the middle of its lane."""
LEGEND = "● row committed   ▒ until its record is in Kafka   → handled   ↩ on the way back, dashed"
LETTER = 6.2
"""The width of a letter of a name, in pixels, on average."""
ROWS = "SELECT id::text, type, causation_id::text, created_at FROM outbox WHERE aggregateid = %s ORDER BY created_at"
HANDLED = "SELECT event_id::text, handled_at FROM inbox WHERE event_id = ANY(%s::uuid[])"

UNDO_EVENTS = {
    "InventoryReservationFailed",
    "PaymentFailed",
    "ShippingFailed",
    "OrderCancelRequested",
    "OrderTimedOut",
    "InventoryReleased",
    "PaymentRefunded",
    "ShipmentCancelled",
    "OrderCancelled",
}
"""The events of an order's way back, its compensation."""


@dataclass
class TimelineStep:
    """One event of an order.

    Attributes
    ----------
    service, type, event_id, cause : str
        The publishing service, the event's type and id, and the id of the event that caused it.
    committed : datetime, optional
        The creation time of its outbox row; None if it has a record without a row.
    recorded : list of datetime
        The times of its records: one, unless it was published twice.
    handled : dict
        The time at which each service recorded it in its inbox.
    """

    service: str
    type: str
    event_id: str
    cause: str
    committed: datetime | None
    recorded: list[datetime] = field(default_factory=list)
    handled: dict[str, datetime] = field(default_factory=dict)

    @property
    def start(self) -> datetime:
        """The first moment of the event."""
        return min([*([self.committed] if self.committed else []), *self.recorded])

    @property
    def is_undo(self) -> bool:
        """Whether the event belongs to the order's way back."""
        return self.type in UNDO_EVENTS


STATEMENT_TIMEOUT = "-c statement_timeout=5000"


def steps_of(order_id: str, databases: dict[str, str], records: Iterable[broker.Record]) -> list[TimelineStep]:
    """Collect the events of an order.

    Parameters
    ----------
    order_id : str
        The order's id.
    databases : dict
        URL by service.
    records : iterable of Record
        The order's records.

    Raises
    ------
    ShopUnavailable
        A database does not answer.
    """
    found: dict[str, TimelineStep] = {}
    for service, url in databases.items():
        with database_errors(service), connect(url, timeout=2, options=STATEMENT_TIMEOUT) as db:
            for event_id, kind, cause, committed in db.execute(ROWS, [order_id]):
                found[event_id] = TimelineStep(service, kind, event_id, cause or "", committed)
    for record in records:
        event_id, cause = (record.headers.get(name) or "" for name in ("ce_id", "causation_id"))
        without_row = TimelineStep(record.topic.split(".")[0], record.type, event_id, cause, None)
        found.setdefault(event_id, without_row).recorded.append(datetime.fromtimestamp(record.time / 1000, UTC))
    for service, url in databases.items():
        with database_errors(service), connect(url, timeout=2, options=STATEMENT_TIMEOUT) as db:
            for event_id, handled in db.execute(HANDLED, [list(found)]):
                found[event_id].handled[service] = handled
    return sorted(found.values(), key=lambda step: step.start)


@checked_class
class Timeline:
    """The history of an order: what happened, when and where.

    In a notebook it is a picture with a lane for each service, time to the right. Printed it is a table.

    Parameters
    ----------
    title : str
        The order's name.
    steps : list of TimelineStep
        Its events, in the order of their commits.
    """

    def __init__(self, title: str, steps: list[TimelineStep]) -> None:
        self.title = title
        self.steps = steps

    @property
    def milliseconds(self) -> float:
        """The time from the first commit to the last moment of any event."""
        last = max(moment for step in self.steps for moment in [step.start, *step.recorded, *step.handled.values()])
        return self._after(last)

    def _after(self, moment: datetime) -> float:
        return (moment - self.steps[0].start).total_seconds() * 1000

    def table(self) -> pd.DataFrame:
        """Return a row for each event: service, type, ms of commit, record and handling, number of records."""
        return pd.DataFrame(
            [
                {
                    "service": step.service,
                    "event": step.type,
                    "way": "back" if step.is_undo else "on",
                    "committed (ms)": round(self._after(step.committed), 1) if step.committed else None,
                    "recorded (ms)": round(self._after(step.recorded[0]), 1) if step.recorded else None,
                    **{
                        f"{service} (ms)": round(self._after(step.handled[service]), 1)
                        if service in step.handled
                        else None
                        for service in SERVICES
                    },
                    "records": len(step.recorded),
                }
                for step in self.steps
            ]
        )

    def duplicates(self) -> list[str]:
        """Return the types of the events that were published more than once."""
        return [step.type for step in self.steps if len(step.recorded) > 1]

    def without_rows(self) -> list[str]:
        """Return the types of the events that are in Kafka and have no outbox row."""
        return [step.type for step in self.steps if not step.committed]

    @property
    def alt(self) -> str:
        """The picture in words."""
        back = [step.type for step in self.steps if step.is_undo]
        return (
            f"Timeline of {self.title}: {len(self.steps)} events over {self.milliseconds:.0f} ms in four lanes. "
            f"On the way on: {', '.join(step.type for step in self.steps if not step.is_undo)}. "
            f"On the way back: {', '.join(back) or 'none'}. More than once: {', '.join(self.duplicates()) or 'none'}. "
            f"In Kafka without an outbox row: {', '.join(self.without_rows()) or 'none'}."
        )

    def picture(self) -> Picture:
        """Draw the timeline."""
        lanes = {service: LANE * number for number, service in enumerate(SERVICES)}
        picture = Picture(f"Saga of {self.title}", self.alt, self.milliseconds, LANE * len(lanes), left=100)
        picture.label(picture.width, -10, LEGEND, anchor="end", style="font-size:11px")
        for service, y in lanes.items():
            picture.band(y + GAP / 2, LANE - GAP, SERVICES[service], service)
        middles = {service: y + LANE / 2 for service, y in lanes.items()}
        for step in self.steps:
            self._draw_deliveries(picture, step, middles)
        names = {service: _Names() for service in lanes}
        for step in self.steps:
            self._draw_event(picture, step, middles[step.service], names[step.service])
        return picture

    def _published(self, step: TimelineStep) -> float:
        return self._after(step.recorded[0] if step.recorded else step.start)

    def _draw_deliveries(self, picture: Picture, step: TimelineStep, middles: dict[str, float]) -> None:
        start = (picture.x(self._published(step)), middles[step.service])
        for service, moment in step.handled.items():
            target = (picture.x(self._after(moment)), middles[service])
            picture.line(start, target, TEXT, dash="5 3" if step.is_undo else "", arrow=True)

    def _draw_event(self, picture: Picture, step: TimelineStep, y: float, names: _Names) -> None:
        begin, end = self._after(step.start), self._published(step)
        twice = f" ×{len(step.recorded)}" if len(step.recorded) > 1 else ""
        published = f"in Kafka at {end:.1f} ms{twice}" if step.recorded else "not in Kafka"
        committed = f"committed at {begin:.1f} ms" if step.committed else "no row"
        tip = f"{step.type}: {committed}, {published}"
        picture.bar(begin, end, y - 5, SERVICES[step.service], tip, height=10, hatched=True)
        picture.dot(picture.x(begin), y, SERVICES[step.service], tip)
        name = f"{'↩ ' if step.is_undo else ''}{step.type}{twice}{'' if step.committed else ' (no row)'}"
        late = picture.x(begin) + LETTER * len(name) > picture.width
        offset = names.place(picture.x(begin) - (LETTER * len(name) if late else 0), name)
        picture.label(picture.x(begin), y + offset, name, anchor="end" if late else "start", style="font-size:11px")

    def save(self, path: str | Path) -> Path:
        """Write the picture to an SVG or PNG file."""
        return self.picture().save(path)

    def __repr__(self) -> str:
        return self.table().to_string(index=False)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self.picture().svg()}


class _Names:
    """Places the names of a lane's events so that they don't overlap, as long as there is room."""

    def __init__(self) -> None:
        self._ends = dict.fromkeys(NAME_ROWS, 0.0)

    def place(self, x: float, name: str) -> int:
        """Return the row for a name that starts at `x`: the first free one, else the one that is free the soonest."""
        free = [row for row, end in self._ends.items() if end <= x]
        row = free[0] if free else min(self._ends, key=lambda row: self._ends[row])
        self._ends[row] = x + LETTER * (len(name) + 1)
        return row
