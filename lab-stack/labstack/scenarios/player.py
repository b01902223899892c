"""Play a scenario: break the lab, prove that it is broken, heal it, and prove that it is healed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from labstack.errors import LabError, NotRunning
from labstack.lab import Lab, access_of
from labstack.scenarios import demo
from labstack.scenarios.model import Scenario, ScenarioStep, load_scenario
from labstack.scenarios.stage import ConditionNotMet, ScenarioActive, ScenarioStage

FINAL_CONDITIONS = "every component is ready, no effect is left, an order completes, every invariant holds"
"""The conditions that must hold after every healing."""

StepListener = Callable[[str], None]
"""A callback that receives the description of each step before the step runs."""


@dataclass
class ScenarioReport:
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
        lines = [f"{description}  ({seconds:.1f} s)" for description, seconds in self.steps]
        return "\n".join([f"{self.scenario}:", *(f"  {line}" for line in lines)])


class Player:
    """Plays scenarios in a lab.

    Parameters
    ----------
    lab : Lab
        The running lab.
    on_step : callable, optional
        Receives the description of each step before the step runs.
    timeout : float, optional
        Maximum number of seconds that a step waits for its condition.
    """

    def __init__(self, lab: Lab, on_step: StepListener = lambda _: None, timeout: float | None = None) -> None:
        self._lab = lab
        self._on_step = on_step
        self._timeout = timeout

    @property
    def active(self) -> str | None:
        """Name of the active scenario, or None."""
        stage = ScenarioStage.of(self._lab)
        return stage.scenario if stage else None

    def run(self, scenario: Scenario, *, leave_out: Iterable[str] = ()) -> ScenarioReport:
        """Inject the scenario's fault, and return once the proof holds. The fault stays until the scenario is healed.

        Parameters
        ----------
        scenario : Scenario
            The scenario to play.
        leave_out : iterable of str
            Kinds of `inject` steps to skip, to verify that the proof fails without them.

        Raises
        ------
        ScenarioActive
            Another scenario is active.
        ConditionNotMet
            The fault had no effect.
        LabError
            The lab is not ready, or lacks a component that the scenario needs.
        """
        self._require(scenario)
        stage = ScenarioStage(self._lab, scenario.name)
        self._limit(stage)
        stage.save()
        report = ScenarioReport(scenario.name)
        skipped = set(leave_out)
        self._do(stage, [step for step in scenario.inject if step.verb.kind not in skipped], report)
        self._do(stage, scenario.proof, report)
        return report

    def heal(self) -> ScenarioReport:
        """Heal the active scenario, and return once no effect of it is left.

        This means that every component serves, an order completes, and every invariant of the saga holds.

        Raises
        ------
        ScenarioActive
            No scenario is active.
        ConditionNotMet
            An effect of the fault is left; names it. `lab reset` always works.
        """
        stage = ScenarioStage.of(self._lab)
        if stage is None:
            raise ScenarioActive("No scenario is active.", next_step="start one with `lab scenario run NAME`")
        scenario = load_scenario(stage.scenario)
        report = ScenarioReport(scenario.name)
        stage.healing = True
        self._limit(stage)
        stage.save()
        self._do(stage, scenario.heal, report)
        self._do(stage, scenario.healed, report)
        self._run_step(FINAL_CONDITIONS, lambda: _check_no_effect_left(stage), report)
        stage.delete()
        return report

    # -- the steps -------------------------------------------------------------------------------------------------

    def _limit(self, stage: ScenarioStage) -> None:
        """Use the player's timeout for the conditions of the stage."""
        if self._timeout is not None:
            stage.timeout = self._timeout

    def _do(self, stage: ScenarioStage, steps: Iterable[ScenarioStep], report: ScenarioReport) -> None:
        for step in steps:
            self._run_step(str(step), partial(step.verb.run, stage, step.arguments), report)

    def _run_step(self, description: str, action: Callable[[], object], report: ScenarioReport) -> None:
        self._on_step(description)
        began = time.monotonic()
        action()
        report.steps.append((description, time.monotonic() - began))

    def _require(self, scenario: Scenario) -> None:
        status = self._lab.status(memory=False)
        if status.state == "stopped":
            raise NotRunning("The lab is not running.", next_step="run `lab up`")
        if active := self.active:
            raise ScenarioActive(
                f"The scenario {active} is active.",
                next_step="run `lab scenario heal`, or `lab reset` to restore the lab",
            )
        if missing := [name for name in scenario.needs if name not in access_of(self._lab).backend().components()]:
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


def _check_no_effect_left(stage: ScenarioStage) -> None:
    """Check the conditions that must hold after every healing."""
    lab = stage.lab

    def state() -> tuple[str, dict[str, str]]:
        status = lab.status(memory=False)
        return status.state, status.complaints

    stage.expect("every component is ready", state, lambda found: found[0] == "ready")
    effects = {
        "switches": lab.faults.active,
        "dead letters": [letter.id for letter in lab.dead_letters.all()],
        "further versions": list(lab.endpoints.versions),
    }
    if remaining := {name: what for name, what in effects.items() if what}:
        raise ConditionNotMet(
            f"Scenario {stage.scenario}: after healing, the lab still has {remaining}.",
            next_step="run `lab reset` to restore the lab",
        )
    placed = demo.place(lab.endpoints, demo.demo_orders()[0])
    if (order := demo.follow(lab.endpoints, placed["order_id"], 40))["status"] != "COMPLETED":
        raise ConditionNotMet(
            f"Scenario {stage.scenario}: an order then ended as {order['status']} ({order['failure_reason']}).",
            next_step="run `lab reset` to restore the lab",
        )
    stage.expect(
        "every invariant",
        lambda: [verdict.name for verdict in lab.check(10) if not verdict.holds],
        lambda names: names == [],
    )
