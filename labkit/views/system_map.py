"""The system map: the diagram of the lab, in which every event lights up the boxes and arrows of its path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from labkit.aliases import Aliases
from labkit.views.drawing import map_drawing
from labkit.views.drawing.colours import SERVICES
from labkit.views.drawing.map_drawing import BOXES
from labkit.views.drawing.timeline import UNDO_EVENTS
from labkit.views.feed import Feed, Observation, Stage, States
from labkit.views.live import PAGE, LiveView, Page, Receiver, script
from labkit.views.picture_files import save_picture
from labstack.arguments import checked_class

RECENT = 6
"""The number of recent observations listed in words, below the picture."""

REMEMBERED = 60
"""The number of recent observations that are kept: one that arrives late may be earlier than the listed ones."""

STAGES: tuple[Stage, ...] = ("request", "row", "record", "handled", "given up")
"""The stages in the order of cause and effect."""

Direction = str
"""``on``, or ``back`` for events that undo an order."""


class MapPage(Page):
    """The map's widget."""

    _esm = script("system_map.js")


@checked_class
class SystemMap(LiveView):
    """The diagram, live.

    It draws observations only: requests in Envoy's counters, rows in the outbox tables, records in the topics, handled
    events in the inboxes, states of processes or containers, and the services that send data to Prometheus and Jaeger.

    Parameters
    ----------
    feed : Feed
        The source of observations.
    aliases : Aliases
        Names for the orders.
    page : object, optional
        See `LiveView`.
    """

    page_class = MapPage
    title = "System map"
    anchor = "split-right"

    def __init__(self, feed: Feed, aliases: Aliases, page: Receiver | None = None) -> None:
        self._aliases = aliases
        self.passed: Counter[str] = Counter()
        """The number of observations on each arrow, forward and back."""
        self.back: Counter[str] = Counter()
        """The number of those on the way back."""
        self.given_up = 0
        self.states = States()
        self._lit: Counter[tuple[str, Direction]] = Counter()
        self._recent: list[Observation] = []
        self._changed = True
        super().__init__(feed, page)

    # -- observations ----------------------------------------------------------------------------------------------

    def apply(self, observations: list[Observation], states: States | None) -> None:
        for one in observations:
            direction = _direction(one)
            for arrow in _arrows_of(one, direction):
                self.passed[arrow] += one.times
                self.back[arrow] += one.times if direction == "back" else 0
                self._lit[arrow, direction] += one.times
            self.given_up += one.stage == "given up"
        self._recent = in_causal_order([*self._recent, *observations])[-REMEMBERED:]
        if states is not None and states != self.states:
            self.states, self._changed = states, True

    def _latest(self) -> list[Observation]:
        """Return the listed observations, newest first."""
        return self._recent[: -RECENT - 1 : -1]

    def _describe(self, one: Observation) -> str:
        sign = "↩ " if _direction(one) == "back" else ""
        order = f"{self._aliases.known(one.order_id)} · " if one.order_id else ""
        match one.stage:
            case "request":
                return f"{one.times} request{'s' * (one.times > 1)}: client → gateway → {one.service}"
            case "row":
                return f"{sign}{order}{one.type}: committed by {one.service}"
            case "record":
                return f"{sign}{order}{one.type}: outbox → Debezium → Kafka"
            case "handled":
                return f"{sign}{order}{one.type}: handled by {one.service}"
            case "given up":
                return f"✝ {order}{one.type or 'a record'}: given up by {one.service}"

    # -- showing ---------------------------------------------------------------------------------------------------

    def notes(self) -> dict[str, str]:
        """Return the text below each box's name."""
        passed = self.passed
        notes = {"Gateway": _count(passed["User>Gateway"], "request"), "Debezium": ""}
        notes["Debezium"] = _count(passed["Debezium>Kafka"], "record")
        notes["Kafka"] = " · ".join(
            [
                *(f"{service}.events {passed[f'{_name(service)}Outbox>Debezium']}" for service in SERVICES),
                f"dead letters {self.given_up}",
            ]
        )
        for service in SERVICES:
            api = f"{_name(service)}API"
            handled = passed[f"Kafka>{api}:forward"] + passed[f"Kafka>{api}:undo"]
            notes[api] = f"{handled} handled"
            notes[f"{_name(service)}Outbox"] = _count(passed[f"{api}>{_name(service)}Outbox"], "row")
        return notes

    def off(self) -> dict[str, str]:
        """Return the boxes that are greyed out, with a word for the reason."""
        known = self.states.components
        words = {
            box.id: known.get(box.component, "not here")
            for box in BOXES
            if box.component and known and known.get(box.component, "not here") != "running"
        }
        signs = {"paused": "❚❚ paused", "stopped": "■ stopped", "failed": "✕ failed"}
        return {box: signs.get(word, f"○ {word}") for box, word in words.items()}

    def dead(self) -> dict[str, bool]:
        """Return for the arrows of metrics and traces whether no data flows."""
        dead = {}
        for service in SERVICES:
            dead[f"{_name(service)}API>Prometheus"] = service not in self.states.scraped
            dead[f"{_name(service)}API>Jaeger"] = service not in self.states.traced
        off = self.off()
        dead["Prometheus>Grafana"] = "Grafana" in off or "Prometheus" in off
        return dead

    @property
    def alt(self) -> str:
        """The picture in words."""
        off = ", ".join(f"{box} {word[2:]}" for box, word in self.off().items()) or "none"
        records, back = self.passed["Debezium>Kafka"], self.back["Debezium>Kafka"]
        return (
            "The system: client, gateway, four services with database and outbox, Debezium, Kafka, Prometheus, "
            f"Grafana, Jaeger. Seen so far: {records} records, {back} of them on the way back, "
            f"{self.given_up} given up. Not running: {off}."
        )

    def svg(self) -> str:
        """Return the map's current state as SVG."""
        with self._lock:
            return map_drawing.draw(self.notes(), self.off(), self.dead(), self.alt)

    def save(self, path: str | Path) -> Path:
        """Write the picture to an SVG or PNG file."""
        style = (PAGE / "views.css").read_text(encoding="utf-8")
        return save_picture(self.svg().replace("<defs>", f"<style>{style}</style><defs>", 1), path)

    def words(self) -> str:
        with self._lock:
            notes, off = self.notes(), self.off()
            lines = [f"{box.name:<18} {off.get(box.id) or notes.get(box.id, ''):<20}".rstrip() for box in BOXES]
            return "\n".join([*lines, "", *map(self._describe, self._latest())])

    def batch(self) -> dict[str, Any] | None:
        lit = [[arrow, direction, times] for (arrow, direction), times in self._lit.items()]
        self._lit.clear()
        if not lit and not self._changed:
            return None
        self._changed = False
        return {"lit": lit, **self._content()}

    def snapshot(self) -> dict[str, Any]:
        return {"svg": map_drawing.draw(self.notes(), self.off(), self.dead(), self.alt), **self._content()}

    def _content(self) -> dict[str, Any]:
        return {
            "notes": self.notes(),
            "off": self.off(),
            "dead": self.dead(),
            "alt": self.alt,
            "told": [[self._describe(one), _direction(one)] for one in self._latest()],
        }

    def __repr__(self) -> str:
        return (
            "The system map: each box and arrow lights up when an event passes it; compensations have another colour."
            "\nA component that does not run is grey. `print(live.text())` shows the same as text."
        )


def in_causal_order(observations: Iterable[Observation]) -> list[Observation]:
    """Sort observations by time, each event's row before its record, and its record before its handling.

    They come from several sources, so they arrive in any order. The broker's times are whole milliseconds, so that of a
    record may be earlier than that of its row.
    """
    listed = list(observations)
    moments: dict[tuple[str, Stage], float] = {}
    for one in listed:
        place = (one.event_id, one.stage)
        moments[place] = min(one.at, moments.get(place, one.at))

    def key(one: Observation) -> tuple[float, int]:
        rank = STAGES.index(one.stage)
        earlier = (moments.get((one.event_id, stage), 0.0) for stage in STAGES[:rank]) if one.event_id else ()
        return max([one.at, *earlier]), rank

    return sorted(listed, key=key)


def _direction(one: Observation) -> Direction:
    return "back" if one.type in UNDO_EVENTS else "on"


def _arrows_of(one: Observation, direction: Direction) -> list[str]:
    """Return the arrows on the path of an observation."""
    name = _name(one.service)
    match one.stage:
        case "request":
            return ["User>Gateway", "Gateway>VirtualService", f"VirtualService>{name}API"]
        case "row":
            return [f"{name}API>{name}DB", f"{name}API>{name}Outbox"]
        case "record":
            return [f"{name}Outbox>Debezium", "Debezium>Kafka"]
        case "handled":
            return [f"Kafka>{name}API:{'undo' if direction == 'back' else 'forward'}"]
    return []


def _name(service: str) -> str:
    return service.capitalize()


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
