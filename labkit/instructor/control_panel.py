"""The control room's widgets: the scenarios as buttons, the map, speaker notes and a chart."""

from __future__ import annotations

import base64
import html
import io
import threading
import time
from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING

import ipywidgets as widgets

from labkit.errors import KitError
from labkit.views.drawing.chart import plot, read
from labkit.views.drawing.charts import in_both_themes
from labkit.views.drawing.colours import BLUE, GREEN, VERMILION
from labstack.errors import LabError
from labstack.scenarios import Scenario

if TYPE_CHECKING:
    from labkit.instructor.control_room import ControlRoom

CHART_INTERVAL = 3.0
"""Seconds between two drawings of the chart; one drawing takes a tenth of a second."""

CHART_SECONDS = 900.0
"""Seconds after the last click during which the chart is drawn."""

PHASES = {
    "idle": ("All is well.", GREEN),
    "breaking": ("Breaking it ...", VERMILION),
    "broken": ("It is broken, and that was seen.", VERMILION),
    "healing": ("Healing it ...", BLUE),
    "resetting": ("Bringing everything back to the course's start ...", BLUE),
}


LIST_STYLE = "margin:0.2em 0 0.6em;line-height:1.35"


class ControlPanel:
    """The widgets of a control room.

    Parameters
    ----------
    room : ControlRoom
        The control room that they show and that their buttons control.
    """

    def __init__(self, room: ControlRoom) -> None:
        self._room = room
        self._closed = threading.Event()
        self.widget = self._build()
        self.refresh()
        self._chart_thread = threading.Thread(target=self._draw_repeatedly, name="labkit-control-room", daemon=True)
        self._chart_thread.start()

    def close(self) -> None:
        """Stop drawing, and disconnect the map from the feed."""
        self._closed.set()
        self._map.stop()
        self._chart_thread.join(5)

    def _build(self) -> widgets.Widget:
        self._map = self._room.look.map()
        self.pick = {name: self._scenario_button(one) for name, one in self._room.scenarios.items()}
        rows = []
        for chapter, ones in groupby(self._room.scenarios.values(), key=lambda one: one.chapter):
            title = widgets.HTML(f"<b>{html.escape(chapter.capitalize())}</b>")
            rows += [title, *(self.pick[one.name] for one in ones)]
        scenario_list = widgets.VBox(rows, layout={"width": "270px", "min_width": "270px", "max_height": "980px"})
        scenario_list.layout.overflow = "auto"
        self._title, self._notes = widgets.HTML(), widgets.HTML()
        self.run_button = self._action_button("▶ Break it", "danger", self._room.run)
        self.heal_button = self._action_button("✚ Heal it", "success", self._room.heal)
        self.reset_button = self._action_button("⟲ Reset", "", self._room.reset)
        self._state = widgets.HTML()
        self.steps = widgets.HTML()
        self._chart = widgets.HTML()
        buttons = widgets.HBox([self.run_button, self.heal_button, self.reset_button])
        # The map is visible without scrolling, below the buttons that change it.
        content = [self._title, buttons, self._state, self._map.widget(), self._notes, self.steps, self._chart]
        return widgets.HBox(
            [scenario_list, widgets.VBox(content, layout={"flex": "1 1 auto", "padding": "0 0 0 16px"})]
        )

    def _scenario_button(self, one: Scenario) -> widgets.Button:
        button = widgets.Button(
            description=f"{one.name.replace('-', ' ')} · {one.minutes} min",
            tooltip=one.title,
            layout={"width": "250px", "min_height": "28px"},
        )
        button.style.text_align = "left"
        button.on_click(lambda _: self._room.choose(one.name))
        return button

    def _action_button(self, text: str, style: str, action: Callable[[], object]) -> widgets.Button:
        """Create a button that runs an action in the background, so that the page stays responsive."""
        button = widgets.Button(description=text, button_style=style, layout={"width": "190px", "height": "40px"})
        button.style.font_weight = "bold"
        button.style.font_size = "17px"

        def work() -> None:
            try:
                action()
            except (KitError, LabError):
                self.refresh()  # the error is in the room's log

        button.on_click(lambda _: threading.Thread(target=work, name="labkit-action", daemon=True).start())
        return button

    def refresh(self) -> None:
        """Show the current state."""
        room = self._room
        idle, broken = room.phase == "idle", room.phase == "broken"
        self.run_button.disabled = not idle
        self.heal_button.disabled = not broken
        self.reset_button.disabled = not (idle or broken)
        for name, button in self.pick.items():
            button.disabled = not idle
            button.style.font_weight = "bold" if name == room.chosen.name else "normal"
            button.button_style = "info" if name == room.chosen.name else ""
        self._title.value, self._notes.value = title(room.chosen), notes(room.chosen)
        text, colour = PHASES[room.phase]
        self._state.value = f'<div role="status" style="color:{colour};font-size:1.15em"><b>{text}</b></div>'
        steps = "\n".join(room.log[-9:])
        self.steps.value = f'<pre style="margin:0;white-space:pre-wrap;min-height:9em">{html.escape(steps)}</pre>'

    def _draw_repeatedly(self) -> None:
        """Draw the chart repeatedly, while the room is in use and the map's page is open."""
        while not self._closed.wait(CHART_INTERVAL):
            if self._map.live and time.monotonic() - self._room.last_action < CHART_SECONDS:
                self._chart.value = self._chart_html()

    def _chart_html(self) -> str:
        """Draw the charts of the chosen scenario; return an empty text if it has none."""
        expressions = self._room.chosen.charts
        if not expressions:
            return ""
        from matplotlib.figure import Figure

        try:
            series, now = read(self._room.look.metrics.prometheus, expressions, 120)
        except (KitError, LabError) as error:
            return f"<i>{html.escape(str(error).splitlines()[0])}</i>"
        figure = Figure(figsize=(8, 2.4), layout="constrained")
        axes = figure.subplots()
        in_both_themes(figure, axes)
        marks = [(what, when - now) for what, when in self._room.marks.items() if now - when < 120]
        alt = plot(axes, series, marks, next(iter(expressions)), "")
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=96)
        picture = base64.b64encode(file.getvalue()).decode()
        return f'<img alt="{html.escape(alt)}" style="max-width:100%" src="data:image/png;base64,{picture}">'


def title(one: Scenario) -> str:
    """Return a scenario's title, duration and notebook as HTML."""
    return (
        f'<div style="line-height:1.2"><span style="font-size:1.5em">{html.escape(one.title)}</span> '
        f"&nbsp;{one.minutes} minutes · notebook {html.escape(one.notebook)}</div>"
    )


def notes(one: Scenario) -> str:
    """Return an instructor's notes on a scenario, as HTML."""

    def listed(heading: str, lines: tuple[str, ...]) -> str:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        return f'<div style="flex:1 1 280px"><b>{heading}</b><ul style="{LIST_STYLE}">{items}</ul></div>'

    return (
        f'<div style="line-height:1.35"><p style="font-size:1.1em;margin:0.4em 0">{html.escape(one.story)}</p>'
        f'<div style="display:flex;flex-wrap:wrap;gap:1em">{listed("Say", one.say)}{listed("Watch", one.watch)}</div>'
        "</div>"
    )
