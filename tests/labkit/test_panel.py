"""The panel beside the notebook: one for all live views, with the latest one that asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labkit.views.feed import Observation, States
from labkit.views.live import DrawnPage, LiveView


class Feed:
    """A feed without sources."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}

    def subscribe(self, listener: Callable[..., None]) -> None:
        """Add a listener."""

    def unsubscribe(self, listener: Callable[..., None]) -> None:
        """Remove a listener."""


class View(LiveView):
    """A view that draws a fixed picture."""

    page_class = DrawnPage
    title = "A view"

    def words(self) -> str:
        return "a picture"

    def apply(self, observations: list[Observation], states: States | None) -> None: ...

    def batch(self) -> dict[str, Any] | None:
        return None

    def snapshot(self) -> dict[str, Any]:
        return {"html": "<b>a picture</b>"}

    def __repr__(self) -> str:
        return "A view."


@pytest.fixture
def views() -> Iterator[list[View]]:
    views = [View(Feed()), View(Feed())]  # type: ignore[arg-type]
    yield views
    LiveView._close_panel()
    for view in views:
        view.stop()


def panel() -> Any:
    """Return the widget of the panel."""
    assert LiveView._panel is not None
    return LiveView._panel[1]


def test_the_panel_shows_the_view_that_asked_last(views: list[View]) -> None:
    """There is one panel. It shows the view that asked for it last; the view itself is returned, for its cell."""
    one, other = views
    assert one.beside() is one
    first = panel()
    assert first.outputs[0]["data"]["text/plain"] == "A view."
    one.beside()
    assert panel() is first
    other.handle_message({"kind": "beside", "view": "page-1"})
    assert panel() is not first
    assert first.comm is None, "the first panel is closed"


def test_a_closed_panel_is_not_restored(views: list[View]) -> None:
    """When the learner closes the panel, its widget ends, so that a saved notebook does not contain it."""
    one, other = views
    widget = one.beside().widget()
    shown = panel()
    one.handle_message({"kind": "here", "view": "below the cell"})
    one.handle_message({"kind": "here", "view": "in the panel"})
    one.handle_message({"kind": "gone", "view": "in the panel", "panel": True})
    assert LiveView._panel is None
    assert shown.comm is None
    assert one.live
    assert widget.comm is not None
    other.beside()
    one.handle_message({"kind": "gone", "view": "in the panel", "panel": True})
    assert LiveView._panel is not None, "the panel of another view stays"
