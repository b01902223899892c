"""The instructor's control room: the active scenario, its controls, and a reset that always works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import groupby
from typing import Any, Literal

from labkit.errors import KitError
from labkit.inspect.look import Look
from labkit.instructor.control_panel import ControlPanel
from labkit.views.live import bundle
from labstack import Lab
from labstack.arguments import checked, checked_class
from labstack.errors import LabError
from labstack.scenarios import Player, Scenario, ScenarioReport, load_scenario, load_scenarios

Phase = Literal["idle", "breaking", "broken", "healing", "resetting"]


@checked_class
class ControlRoom:
    """Buttons that show failures live; the same actions can be called from code.

    Parameters
    ----------
    lab : Lab
        The running lab.
    look : Look
        Provides the map and the chart.

    Attributes
    ----------
    scenarios : dict
        All scenarios, by name.
    chosen : Scenario
        The selected scenario.
    phase : str
        ``idle``, ``breaking``, ``broken``, ``healing`` or ``resetting``.
    log : list of str
        The steps taken, in words, and the errors.
    marks : dict
        The times (``time.time()``) at which the scenario was broken and healed.
    last_action : float
        The time (``time.monotonic()``) of the last action.

    Examples
    --------
    >>> room = ControlRoom(lab, look)
    >>> room                       # shows it
    >>> room.choose("connect-killed")
    >>> room.run()
    >>> room.heal()
    """

    @checked
    def __init__(self, lab: Lab, look: Look) -> None:
        self.look = look
        self.scenarios = load_scenarios()
        self.phase: Phase = "idle"
        self.log: list[str] = []
        self.marks: dict[str, float] = {}
        self.last_action = time.monotonic()
        self.chosen: Scenario = next(iter(self.scenarios.values()))
        self._lab = lab
        self._player = Player(lab, self._log_step)
        self._busy = threading.Lock()
        self._panel: ControlPanel | None = None
        self._adopt_active()

    # -- from code -------------------------------------------------------------------------------------------------

    def choose(self, name: str) -> Scenario:
        """Select a scenario without running it.

        Raises
        ------
        ScenarioError
            There is no scenario with that name.
        KitError
            Another scenario is active.
        """
        if self.phase != "idle" and name != self.chosen.name:
            raise KitError(f"{self.chosen.name} is on.", next_step="heal it first, or reset")
        self.chosen = load_scenario(name)
        self.log.clear()
        self.marks.clear()
        self._refresh()
        return self.chosen

    def run(self) -> ScenarioReport:
        """Run the chosen scenario; return when its failure has been observed."""
        return self._run_action("breaking", "broken", "broken", lambda: self._player.run(self.chosen))

    def heal(self) -> ScenarioReport:
        """Heal the failure; return when no effect of it is left."""
        return self._run_action("healing", "idle", "healed", self._player.heal)

    def reset(self) -> None:
        """Restore the course's initial state, whatever state the lab is in."""

        def restore() -> ScenarioReport:
            began = time.monotonic()
            try:
                self._lab.reset()
            except LabError:
                # Starting a lab that is down, or partly down, makes it complete.
                self._lab.up()
                self._lab.reset()
            return ScenarioReport("reset", [("lab reset", time.monotonic() - began)])

        self._run_action("resetting", "idle", "reset", restore)

    def close(self) -> None:
        """Stop drawing, and disconnect the map from the feed."""
        if self._panel:
            self._panel.close()

    def __repr__(self) -> str:
        lines = [f"The control room: {len(self.scenarios)} scenarios."]
        for chapter, ones in groupby(self.scenarios.values(), key=lambda one: one.chapter):
            lines += [f"{chapter}:", *(f"  {one.name:<26}{one.minutes:>2} min  {one.title}" for one in ones)]
        return "\n".join(lines)

    # -- doing -----------------------------------------------------------------------------------------------------

    def _adopt_active(self) -> None:
        """Adopt a scenario that another process or an earlier kernel left active."""
        try:
            on = self._player.active
        except LabError:
            on = None
        if on in self.scenarios:
            self.chosen, self.phase = self.scenarios[str(on)], "broken"

    def _run_action(
        self, during: Phase, after: Phase, mark: str, action: Callable[[], ScenarioReport]
    ) -> ScenarioReport:
        if not self._busy.acquire(blocking=False):
            raise KitError("The room is still at work.", next_step="wait for it to end")
        try:
            self._adopt_active()
            before = self.phase
            self.phase, self.last_action = during, time.monotonic()
            self._refresh()
            try:
                report = action()
            except Exception as error:
                # A failure half-way can be healed or reset, so the buttons for that stay.
                self.phase = "broken" if self._scenario_is_active() else "idle" if during != "resetting" else before
                self.log.append(f"✗ {error}")
                raise
            self.marks[mark] = time.time()
            self.log.append(f"✓ {mark} in {report.seconds:.1f} s")
            self.phase = after
            return report
        finally:
            self._busy.release()
            self._refresh()

    def _scenario_is_active(self) -> bool:
        try:
            return self._player.active is not None
        except LabError:
            return True

    def _log_step(self, message: str) -> None:
        self.log.append(message.split("\n")[0])
        self._refresh()

    def _refresh(self) -> None:
        if self._panel:
            self._panel.refresh()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if self._panel is None:
            self._panel = ControlPanel(self)
        return bundle(self._panel.widget, repr(self))
