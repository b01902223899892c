"""The saga's timeline: lanes in the services' colours, legible in both themes, with the same facts as text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from labkit.views.drawing.colours import SERVICES
from labkit.views.drawing.svg import LINE, TINT
from labkit.views.drawing.timeline import Timeline, TimelineStep

SVG = "{http://www.w3.org/2000/svg}"
THEMES = {
    "JupyterLab Light": ((255, 255, 255), (0, 0, 0), 0.87),
    "JupyterLab Dark": ((17, 17, 17), (255, 255, 255), 1.0),
    "the book, light": ((255, 255, 255), (0, 0, 0), 1.0),
    "the book, dark": ((19, 20, 22), (255, 255, 255), 0.8),
}
"""Background, text colour and the text's opacity."""

Colour = tuple[float, float, float]


def at(milliseconds: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


@pytest.fixture
def timeline() -> Timeline:
    """A declined order, whose first event was published twice and whose last one has no record yet."""
    return Timeline(
        "order-1",
        [
            TimelineStep("order", "OrderCreated", "a", "", at(0), [at(8), at(90)], {"inventory": at(17)}),
            TimelineStep(
                "inventory", "InventoryReserved", "b", "a", at(23), [at(33)], {"order": at(42), "payment": at(38)}
            ),
            TimelineStep(
                "payment", "PaymentFailed", "c", "b", at(48), [at(53)], {"inventory": at(60), "order": at(65)}
            ),
            TimelineStep("inventory", "InventoryReleased", "d", "c", at(98), [at(104)], {"order": at(112)}),
            TimelineStep("order", "OrderCancelled", "e", "d", at(119), []),
        ],
    )


def drawing(timeline: Timeline) -> ET.Element:
    return ET.fromstring(timeline.picture().svg())


def test_each_service_has_a_lane_in_its_colour(timeline: Timeline) -> None:
    """Each service has a lane with its name, in its colour, and its events lie in that lane."""
    root = drawing(timeline)
    texts = [text.text or "" for text in root.iter(f"{SVG}text")]
    assert all(service in texts for service in SERVICES)
    lanes = [band for band in root.iter(f"{SVG}rect") if band.get("x") == "0" and band.get("fill-opacity")]
    assert [band.get("fill") for band in lanes] == list(SERVICES.values())
    tops = {band.get("fill"): float(band.get("y", 0)) for band in lanes}
    dots = list(root.iter(f"{SVG}circle"))
    assert len(dots) == len(timeline.steps)
    assert all(0 < float(dot.get("cy", 0)) - tops[dot.get("fill")] < 84 for dot in dots)


def test_time_runs_to_the_right(timeline: Timeline) -> None:
    """A later commit lies farther to the right, in proportion to the time."""
    places = [float(dot.get("cx", 0)) for dot in drawing(timeline).iter(f"{SVG}circle")]
    assert places == sorted(places)
    assert (places[3] - places[0]) / (places[1] - places[0]) == pytest.approx(98 / 23, rel=0.01)


def test_names_of_events_do_not_overlap(timeline: Timeline) -> None:
    """The names of two events of a lane that follow closely stand in different rows."""
    close = [
        TimelineStep("order", "OrderCreated", "a", "", at(0)),
        TimelineStep("order", "OrderCancelRequested", "b", "", at(1)),
    ]
    rest = TimelineStep("inventory", "InventoryReserved", "c", "", at(5000))
    rows = [
        text.get("y")
        for text in drawing(Timeline("order-2", [*close, rest])).iter(f"{SVG}text")
        if "Order" in (text.text or "")
    ]
    assert len(rows) == 2
    assert len(set(rows)) == 2


def test_the_timeline_has_a_text_form(timeline: Timeline) -> None:
    """The alt text and the table name every event, the way back, and what was published twice."""
    label = drawing(timeline).get("aria-label") or ""
    for step in timeline.steps:
        assert step.type in label
        assert step.type in repr(timeline)
    assert "On the way back: PaymentFailed, InventoryReleased, OrderCancelled." in label
    assert "More than once: OrderCreated." in label
    assert timeline.table().way.tolist() == ["on", "on", "back", "back", "back"]
    assert timeline.table().records.tolist() == [2, 1, 1, 1, 0]
    assert timeline.without_rows() == []
    assert "OrderCreated ×2" in timeline.picture().svg()
    assert set(timeline._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_a_record_without_a_row_is_marked(timeline: Timeline) -> None:
    """An event that is in Kafka and not in the outbox is on the timeline, and its name says so."""
    timeline.steps[0].committed = None
    assert timeline.without_rows() == ["OrderCreated"]
    assert "In Kafka without an outbox row: OrderCreated." in timeline.alt
    assert timeline.table()["committed (ms)"].isna().tolist() == [True, False, False, False, False]
    assert "OrderCreated ×2 (no row)" in timeline.picture().svg()


def blend(upper: Colour, lower: Colour, opacity: float) -> Colour:
    red, green, blue = (opacity * a + (1 - opacity) * b for a, b in zip(upper, lower, strict=True))
    return red, green, blue


def luminance(colour: Colour) -> float:
    """Return the relative luminance of WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    """Return the contrast ratio of WCAG 2.2."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def rgb(colour: str) -> Colour:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


@pytest.mark.parametrize("theme", THEMES)
def test_text_and_lines_have_enough_contrast(timeline: Timeline, theme: str) -> None:
    """On every lane, texts have a contrast of 4.5:1 at least, and lines of 3:1, in the light and the dark theme."""
    background, text, opacity = THEMES[theme]
    svg = timeline.picture().svg()
    styles = re.findall(r"<text [^>]*style=\"([^\"]*)\"", svg)
    assert styles
    assert all("fill:currentColor" in style for style in styles)
    strokes = re.findall(r"<line [^>]*stroke=\"([^\"]*)\"", svg)
    assert set(strokes) == {"currentColor"}
    for colour, (least, alpha) in product(SERVICES.values(), ((4.5, 1.0), (3.0, LINE))):
        lane = blend(rgb(colour), background, TINT)
        assert contrast(blend(text, lane, opacity * alpha), lane) >= least
