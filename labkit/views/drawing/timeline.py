"""The saga's timeline of one order: a lane for each service, from the outbox rows, the records and the inboxes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg

from labkit.views.drawing.colours import BLUE, GREY, SERVICES, VERMILION
from labkit.views.drawing.svg import Picture

LANE = 84
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
class Step:
    """One event of an order.

    Attributes
    ----------
    service, type, event_id, cause : str
        The publishing service, the event's type and id, and the id of the event that caused it.
    committed : datetime
        The creation time of its outbox row.
    recorded : list of datetime
        The times of its records: one, unless it was published twice.
    handled : dict
        The time at which each service recorded it in its inbox.
    """

    service: str
    type: str
    event_id: str
    cause: str
    committed: datetime
    recorded: list[datetime] = field(default_factory=list)
    handled: dict[str, datetime] = field(default_factory=dict)

    @property
    def is_undo(self) -> bool:
        """Whether the event belongs to the order's way back."""
        return self.type in UNDO_EVENTS


def steps_of(order_id: str, databases: dict[str, str], records: dict[str, list[datetime]]) -> list[Step]:
    """Collect the events of an order.

    Parameters
    ----------
    order_id : str
        The order's id.
    databases : dict
        URL by service.
    records : dict
        The times of the order's records, by the event's id.

    Raises
    ------
    psycopg.OperationalError
        A database does not answer.
    """
    found: dict[str, Step] = {}
    for service, url in databases.items():
        with psycopg.connect(url, connect_timeout=2, options="-c statement_timeout=5000") as db:
            for event_id, kind, cause, committed in db.execute(ROWS, [order_id]):
                times = sorted(records.get(event_id, []))
                found[event_id] = Step(service, kind, event_id, cause or "", committed, times)
    for service, url in databases.items():
        with psycopg.connect(url, connect_timeout=2, options="-c statement_timeout=5000") as db:
            for event_id, handled in db.execute(HANDLED, [list(found)]):
                found[event_id].handled[service] = handled
    return sorted(found.values(), key=lambda step: step.committed)


class Timeline:
    """The history of an order: what happened, when and where.

    In a notebook it is a picture; printed it is a table.

    Parameters
    ----------
    title : str
        The order's name.
    steps : list of Step
        Its events, in the order of their commits.
    """

    def __init__(self, title: str, steps: list[Step]) -> None:
        self.title = title
        self.steps = steps

    @property
    def milliseconds(self) -> float:
        """The time from the first commit to the last moment of any event."""
        last = max(moment for step in self.steps for moment in [step.committed, *step.recorded, *step.handled.values()])
        return self._after(last)

    def _after(self, moment: datetime) -> float:
        return (moment - self.steps[0].committed).total_seconds() * 1000

    def table(self) -> pd.DataFrame:
        """Return a row for each event: service, type, ms of commit, record and handling, number of records."""
        return pd.DataFrame(
            [
                {
                    "service": step.service,
                    "event": step.type,
                    "way": "back" if step.is_undo else "on",
                    "committed (ms)": round(self._after(step.committed), 1),
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

    @property
    def alt(self) -> str:
        """The picture in words."""
        back = [step.type for step in self.steps if step.is_undo]
        return (
            f"Timeline of {self.title}: {len(self.steps)} events over {self.milliseconds:.0f} ms in four lanes. "
            f"On the way on: {', '.join(step.type for step in self.steps if not step.is_undo)}. "
            f"On the way back: {', '.join(back) or 'none'}. More than once: {', '.join(self.duplicates()) or 'none'}."
        )

    def picture(self) -> Picture:
        """Draw the timeline."""
        lanes = {service: number for number, service in enumerate(SERVICES)}
        picture = Picture(f"Saga of {self.title}", self.alt, self.milliseconds, LANE * len(lanes), left=90)
        for service, number in lanes.items():
            y = LANE * number + LANE / 2
            picture.label(4, y + 4, service, style=f"font-weight:bold;fill:{SERVICES[service]}")
            picture.line((picture.left, y), (picture.width - 20, y), GREY, dash="1 5")
        drawn: dict[str, int] = {}
        for step in self.steps:
            self._draw(picture, step, lanes, drawn)
        return picture

    def _draw(self, picture: Picture, step: Step, lanes: dict[str, int], drawn: dict[str, int]) -> None:
        colour = VERMILION if step.is_undo else BLUE
        dash = "5 3" if step.is_undo else ""
        y = LANE * lanes[step.service] + LANE / 2
        begin = self._after(step.committed)
        end = self._after(step.recorded[0]) if step.recorded else begin
        twice = f" ×{len(step.recorded)}" if len(step.recorded) > 1 else ""
        back = "↩ " if step.is_undo else ""
        tip = f"{step.type}: committed at {begin:.1f} ms, in Kafka at {end:.1f} ms{twice}"
        picture.bar(begin, end, y - 5, SERVICES[step.service], tip, height=10, hatched=True)
        picture.dot(picture.x(begin), y, SERVICES[step.service], tip)
        # Names alternate above and below the lane, so that neighbours do not overlap.
        place = drawn.get(step.service, 0)
        drawn[step.service] = place + 1
        offset = (-12, 22, -26, 36)[place % 4]
        late = picture.x(begin) > picture.width - 180
        anchor = "end" if late else "start"
        picture.label(
            picture.x(begin),
            y + offset,
            f"{back}{step.type}{twice}",
            anchor=anchor,
            style=f"font-size:11px;fill:{colour}",
        )
        for service, moment in step.handled.items():
            target = (picture.x(self._after(moment)), LANE * lanes[service] + LANE / 2)
            picture.line((picture.x(end), y), target, colour, dash=dash, arrow=True)

    def save(self, path: str | Path) -> Path:
        """Write the picture to an SVG or PNG file."""
        return self.picture().save(path)

    def __repr__(self) -> str:
        return self.table().to_string(index=False)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self.picture().svg()}
