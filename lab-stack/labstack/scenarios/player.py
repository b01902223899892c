"""Play a scenario: break the lab, prove that it is broken, heal it, and prove that it is healed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from labstack.errors import LabError, NotRunning
from labstack.lab import Lab
from labstack.lifecycle import demo
from labstack.scenarios.model import Scenario, Step, load_scenario
from labstack.scenarios.stage import NotSeen, ScenarioOn, Stage

AFTERWARDS = "every component is ready, no effect is left, an order completes, every invariant holds"
"""The conditions that must hold after every healing."""

Tell = Callable[[str], None]
"""A callback that receives the description of each step before the step runs."""


@dataclass
class Report:
    """The steps that ran while a scenario was played or healed.

    Attributes
    ----------
    scenario : str
        Name of the scenario.
    steps : list of (str, float)
        Description of each step, and its duration in seconds.
    """

    scenario: str
    steps: list[tuple[str, float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Total duration of the steps."""
        return sum(seconds for _, seconds in self.steps)

    def __repr__(self) -> str:
        lines = [f"{words}  ({seconds:.1f} s)" for words, seconds in self.steps]
        return "\n".join([f"{self.scenario}:", *(f"  {line}" for line in lines)])


class Player:
    """Plays scenarios in a lab.

    Parameters
    ----------
    lab : Lab
        The running lab.
    tell : callable, optional
        Receives the description of each step before the step runs.
    patience : float, optional
        Maximum number of seconds that a step waits for its condition.
    """

    def __init__(self, lab: Lab, tell: Tell = lambda _: None, patience: float | None = None) -> None:
        self._lab = lab
        self._tell = tell
        self._patience = patience

    @property
    def on(self) -> str | None:
        """Name of the active scenario, or None."""
        stage = Stage.of(self._lab)
        return stage.scenario if stage else None

    def run(self, scenario: Scenario, *, leave_out: Iterable[str] = ()) -> Report:
        """Inject the scenario's fault, and return once the proof holds. The fault stays until the scenario is healed.

        Parameters
        ----------
        scenario : Scenario
            The scenario to play.
        leave_out : iterable of str
            Kinds of `inject` steps to skip, to verify that the proof fails without them.

        Raises
        ------
        ScenarioOn
            Another scenario is active.
        NotSeen
            The fault had no effect.
        LabError
            The lab is not ready, or lacks a component that the scenario needs.
        """
        self._require(scenario)
        stage = Stage(self._lab, scenario.name)
        if self._patience is not None:
            stage.patience = self._patience
        stage.keep()
        report = Report(scenario.name)
        without = set(leave_out)
        self._do(stage, [step for step in scenario.inject if step.verb.kind not in without], report)
        self._do(stage, scenario.proof, report)
        return report

    def heal(self) -> Report:
        """Heal the active scenario, and return once no effect of it is left.

        This means that every component serves, an order completes, and every invariant of the saga holds.

        Raises
        ------
        ScenarioOn
            No scenario is active.
        NotSeen
            An effect of the fault is left; names it. `lab reset` always works.
        """
        stage = Stage.of(self._lab)
        if stage is None:
            raise ScenarioOn("No scenario is active.", next_step="start one with `lab scenario run NAME`")
        scenario = load_scenario(stage.scenario)
        report = Report(scenario.name)
        stage.healing = True
        stage.keep()
        self._do(stage, scenario.heal, report)
        self._do(stage, scenario.healed, report)
        self._take(AFTERWARDS, lambda: _nothing_is_left(stage), report)
        stage.forget()
        return report

    # -- the steps -------------------------------------------------------------------------------------------------

    def _do(self, stage: Stage, steps: Iterable[Step], report: Report) -> None:
        for step in steps:
            self._take(str(step), partial(step.verb.run, stage, step.arguments), report)

    def _take(self, words: str, deed: Callable[[], object], report: Report) -> None:
        self._tell(words)
        began = time.monotonic()
        deed()
        report.steps.append((words, time.monotonic() - began))

    def _require(self, scenario: Scenario) -> None:
        status = self._lab.status(memory=False)
        if status.state == "stopped":
            raise NotRunning("The lab is not running.", next_step="run `lab up`")
        if on := self.on:
            raise ScenarioOn(
                f"The scenario {on} is active.",
                next_step="run `lab scenario heal`, or `lab reset` to restore the lab",
            )
        if missing := [name for name in scenario.needs if name not in self._lab.backend.components()]:
            raise LabError(
                f"{scenario.name} needs {', '.join(missing)}, which this lab does not have.",
                next_step=f"run `lab install {missing[0]}`, then `lab down` and `lab up`",
            )
        if status.state != "ready":
            what = "; ".join(f"{name}: {complaint}" for name, complaint in status.complaints.items())
            raise LabError(
                f"The lab is {status.state}, so the effect of the scenario would be unclear. {what}".strip(),
                next_step="run `lab reset` to restore the lab",
            )


def _nothing_is_left(stage: Stage) -> None:
    """Check the conditions that must hold after every healing."""
    lab = stage.lab

    def state() -> tuple[str, dict[str, str]]:
        status = lab.status(memory=False)
        return status.state, status.complaints

    stage.see("every component is ready", state, lambda found: found[0] == "ready")
    left = {
        "switches": lab.switches,
        "dead letters": [letter.id for letter in lab.dead_letters()],
        "further versions": list(lab.endpoints.versions),
    }
    if some := {name: what for name, what in left.items() if what}:
        raise NotSeen(
            f"Scenario {stage.scenario}: the healing left {some}.", next_step="run `lab reset` to restore the lab"
        )
    placed = demo.place(lab.endpoints, demo.orders_of_the_show()[0])
    if (order := demo.follow(lab.endpoints, placed["order_id"], 40))["status"] != "COMPLETED":
        raise NotSeen(
            f"Scenario {stage.scenario}: after that, an order ended as {order['status']} ({order['failure_reason']}).",
            next_step="run `lab reset` to restore the lab",
        )
    stage.see(
        "every invariant",
        lambda: [verdict.name for verdict in lab.check(10) if not verdict.holds],
        lambda names: names == [],
    )
