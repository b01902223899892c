"""The picture of the system, with a position for each box and arrow of docs/architecture.mmd."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass

from labkit.views.drawing.colours import SERVICES

WIDTH, HEIGHT = 1000, 540
COLUMN, FIRST = 205, 20
"""Pixels from one service's column to the next, and the start of the first."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A box of the picture.

    Attributes
    ----------
    id, name : str
        As in the diagram.
    x, y, width, height : float
        Its position and size, in pixels.
    component : str
        The lab's component that the box represents; empty for the client.
    """

    id: str
    name: str
    x: float
    y: float
    width: float
    height: float
    component: str = ""


@dataclass(frozen=True)
class Arrow:
    """An arrow of the picture.

    Attributes
    ----------
    id : str
        The two boxes, and the purpose if there is more than one arrow between them.
    label : str
        As in the diagram.
    points : tuple
        Its corners.
    kind : str
        request, own, relay, forward, undo or watch.
    """

    id: str
    label: str
    points: tuple[Point, ...]
    kind: str

    @property
    def ends(self) -> tuple[str, str]:
        """The ids of the two boxes that the arrow connects."""
        a, _, b = self.id.split(":")[0].partition(">")
        return a, b


def _boxes() -> tuple[Box, ...]:
    boxes = [
        Box("User", "User/Client", 20, 24, 110, 44),
        Box("Gateway", "Istio Gateway", 175, 24, 140, 44, "envoy"),
        Box("VirtualService", "Virtual Service", 335, 24, 140, 44, "envoy"),
        Box("DestRules", "Destination Rules", 495, 24, 150, 44, "envoy"),
        Box("Debezium", "Debezium CDC", FIRST, 370, 805, 38, "connect"),
        Box("Kafka", "Apache Kafka", FIRST, 456, 805, 62, "kafka"),
        Box("Prometheus", "Prometheus", 866, 160, 116, 48, "prometheus"),
        Box("Grafana", "Grafana", 866, 252, 116, 48, "grafana"),
        Box("Jaeger", "Jaeger", 866, 344, 116, 48, "jaeger"),
    ]
    for number, service in enumerate(SERVICES):
        x, name = FIRST + COLUMN * number, service.capitalize()
        boxes += [
            Box(f"{name}API", f"{name} API", x + 35, 160, 120, 48, service),
            Box(f"{name}DB", "PostgreSQL", x + 19, 256, 78, 52, f"{service}-db"),
            Box(f"{name}Outbox", "Outbox", x + 102, 256, 66, 52, f"{service}-db"),
        ]
    return tuple(boxes)


def _arrows() -> tuple[Arrow, ...]:
    arrows = [
        Arrow("User>Gateway", "HTTP Request", ((130, 46), (175, 46)), "request"),
        Arrow("Gateway>VirtualService", "Route", ((315, 46), (335, 46)), "request"),
        Arrow("Debezium>Kafka", "Publishes to", ((422, 408), (422, 456)), "relay"),
        Arrow("Prometheus>Grafana", "Visualizes", ((924, 208), (924, 252)), "watch"),
    ]
    for number, service in enumerate(SERVICES):
        x, name = FIRST + COLUMN * number, service.capitalize()
        api, left, right = f"{name}API", x + 10, x + 176
        forward = "answers, which the diagram leaves out" if service == "order" else "Consumes"
        arrows += [
            Arrow(f"VirtualService>{api}", "Routes to", ((405, 68), (405, 96), (x + 95, 96), (x + 95, 160)), "request"),
            Arrow(f"{api}>{name}DB", "Stores, updates", ((x + 70, 208), (x + 60, 256)), "own"),
            Arrow(f"{api}>{name}Outbox", "Writes to", ((x + 120, 208), (x + 130, 256)), "own"),
            Arrow(f"{name}Outbox>Debezium", "Captured by", ((x + 132, 308), (x + 132, 370)), "relay"),
            Arrow(f"Kafka>{api}:forward", forward, ((left, 456), (left, 188), (x + 35, 188)), "forward"),
            Arrow(f"Kafka>{api}:undo", "Error Events", ((right, 456), (right, 188), (x + 155, 188)), "undo"),
            Arrow(
                f"{api}>Prometheus",
                "Metrics",
                (
                    (x + 140, 160),
                    (x + 140, 106 + 5 * number),
                    (900 + 8 * number, 106 + 5 * number),
                    (900 + 8 * number, 160),
                ),
                "watch",
            ),
            Arrow(
                f"{api}>Jaeger",
                "Traces",
                (
                    (x + 155, 172),
                    (x + 184, 172),
                    (x + 184, 330 + 6 * number),
                    (846, 330 + 6 * number),
                    (846, 356 + 6 * number),
                    (866, 356 + 6 * number),
                ),
                "watch",
            ),
        ]
    return tuple(arrows)


BOXES = _boxes()
ARROWS = _arrows()
GROUPS = (
    ("Istio Service Mesh", 160, 6, 500, 72),
    ("Monitoring", 852, 130, 144, 276),
    *(
        (f"{service.capitalize()} Service", FIRST + COLUMN * number, 130, 190, 192)
        for number, service in enumerate(SERVICES)
    ),
)


def draw(notes: Mapping[str, str], off: Mapping[str, str], dead: Mapping[str, bool], alt: str) -> str:
    """Draw the system as SVG.

    Parameters
    ----------
    notes : mapping
        The text below a box's name, by the box's id.
    off : mapping
        The boxes that are greyed out, with a word for the reason.
    dead : mapping
        For arrows of kind `watch`, by id: whether no data flows.
    alt : str
        The picture in words.
    """
    groups = "".join(
        f'<g class="lk-group"><rect x="{x}" y="{y}" width="{w}" height="{h}" rx="6"/>'
        f'<text x="{x + 8}" y="{y + 15}">{html.escape(name)}</text></g>'
        for name, x, y, w, h in GROUPS
    )
    arrows = "".join(_arrow(arrow, dead.get(arrow.id, False)) for arrow in ARROWS)
    boxes = "".join(_box(box, notes.get(box.id, ""), off.get(box.id, "")) for box in BOXES)
    return (
        f'<svg class="lk-map" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(alt)}"><defs>{_heads()}</defs>{groups}{arrows}{boxes}</svg>'
    )


def _heads() -> str:
    """Return the definition of the arrowhead, which takes its line's colour."""
    return (
        '<marker id="lk-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="context-stroke"/></marker>'
    )


def _arrow(arrow: Arrow, dead: bool) -> str:
    path = " ".join(f"{'M' if number == 0 else 'L'}{x:g},{y:g}" for number, (x, y) in enumerate(arrow.points))
    return (
        f'<path class="lk-arrow lk-{arrow.kind}{" lk-dead" if dead else ""}" data-arrow="{arrow.id}" d="{path}" '
        f'marker-end="url(#lk-head)"><title>{html.escape(arrow.label)}</title></path>'
    )


def _box(box: Box, note: str, off: str) -> str:
    middle, shown = box.x + box.width / 2, off or note
    name_y = box.y + box.height / 2 + (-3 if box.height > 40 else 4)
    note_y = name_y + 16 if box.height > 40 else name_y
    note_x, anchor = (middle, "middle") if box.height > 40 else (box.x + box.width - 12, "end")
    classes = "lk-box" + (" lk-off" if off else "")
    return (
        f'<g class="{classes}" data-box="{box.id}"><rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" '
        f'height="{box.height:g}" rx="5"/><text class="lk-name" x="{middle:g}" y="{name_y:g}" '
        f'text-anchor="middle">{html.escape(box.name)}</text><text class="lk-text" x="{note_x:g}" y="{note_y:g}" '
        f'text-anchor="{anchor}">{html.escape(shown)}</text></g>'
    )
