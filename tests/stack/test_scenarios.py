"""The instructors' scenarios: each verifies its fault and its healing, and fails if either has no effect."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from labstack.errors import NotRunning
from labstack.scenarios import Player, Scenario, load_scenario, load_scenarios
from labstack.scenarios.model import CHAPTERS, FOLDER, ScenarioError
from labstack.scenarios.stage import ConditionNotMet, ScenarioActive
from labstack.scenarios.verbs import VERBS
from tests.stack.intact import is_intact
from tests.stack.labs import ROOT, LabHarness
from tests.suite.chance import short_sample

ALL = load_scenarios()
FAULTY = [name for name, one in ALL.items() if any(step.verb.kind == "fault" for step in one.inject)]
DETECTION_SECONDS = {"deadline-passed": 45.0}
"""Seconds until a missing fault is detected, for scenarios that need more than the default of 4 s."""

METRIC = re.compile(r"\b[a-z]+(?:[_:][a-z0-9_:]+)+\b(?!\()")

VALID_SCENARIO = """
title = "A test"
chapter = "business"
notebook = "03-compensations"
minutes = 1
story = "Nothing."
say = []
watch = []
inject = [{ stop = "payment" }]
proof = [{ component = "payment", state = "stopped" }]
heal = [{ start = "payment" }]
"""


@pytest.fixture
def fresh_lab(shared: LabHarness) -> Iterator[LabHarness]:
    """Return the shared lab at the start of the course; reset it after the test if something is still broken."""
    shared.lab.reset()
    yield shared
    if not is_intact(shared.lab):
        shared.lab.reset()


@pytest.mark.parametrize("name", short_sample(ALL, 1))
def test_scenario_shows_its_fault_and_heals(fresh_lab: LabHarness, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is observed; after healing, every component is ready, an order completes and every invariant holds."""
    player = Player(fresh_lab.lab)
    with usual_deadline(fresh_lab, monkeypatch) if name == "deadline-passed" else nullcontext():
        player.run(ALL[name])
        assert player.active == name
        player.heal()
        assert player.active is None


@contextmanager
def usual_deadline(harness: LabHarness, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the order service with its default deadline, which these tests otherwise extend."""
    with monkeypatch.context() as patch:
        patch.delenv("LAB_ORDER_DEADLINE_SECONDS")
        harness.lab.restart("order")
        yield
    harness.lab.restart("order")


@pytest.mark.parametrize("name", short_sample(FAULTY, 1))
def test_scenario_fails_without_its_fault(fresh_lab: LabHarness, name: str) -> None:
    """A scenario without its fault plays up to a step that needs the fault, and reports that its effect is missing."""
    played: list[str] = []
    player = Player(fresh_lab.lab, played.append, timeout=DETECTION_SECONDS.get(name, 4.0))
    with pytest.raises(ConditionNotMet, match=f"Scenario {name}: "):
        player.run(ALL[name], leave_out=["fault"])
    after_the_fault = [str(step) for step in (*ALL[name].inject, *ALL[name].proof) if step.verb.kind != "fault"]
    assert played == after_the_fault[: len(played)]
    assert played


def test_healing_without_effect_is_an_error(
    fresh_lab: LabHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A healing without effect raises an error with the remaining effects; `lab reset` heals and ends the scenario."""
    bad = write(tmp_path, VALID_SCENARIO.replace('{ start = "payment" }', '{ order = "next" }'))
    player = Player(fresh_lab.lab, timeout=3)
    player.run(bad)
    with pytest.raises(ScenarioError, match="Unknown scenario 'test'"):
        player.heal()
    # `heal` reads the scenario from the lab's own folder of scenarios, which does not contain this one.
    monkeypatch.setattr("labstack.scenarios.player.load_scenario", lambda name: bad)
    message = r"every component is ready: not observed within 3 s.*'payment': 'stopped'"
    with pytest.raises(ConditionNotMet, match=message) as failed:
        player.heal()
    assert "postgresql://" not in str(failed.value)
    fresh_lab.lab.reset()
    assert player.active is None
    assert fresh_lab.lab.status(memory=False).state == "ready"


def test_only_one_scenario_is_active(fresh_lab: LabHarness) -> None:
    """A second scenario is rejected while one is on, and so is a healing when none is on."""
    player = Player(fresh_lab.lab)
    with pytest.raises(ScenarioActive, match="No scenario is active"):
        player.heal()
    player.run(ALL["no-stock"])
    with pytest.raises(ScenarioActive, match="no-stock is active"):
        player.run(ALL["card-declined"])
    player.heal()


def test_scenario_commands_run_and_heal(fresh_lab: LabHarness) -> None:
    """`run` and `heal` work in separate processes, print only JSON with `--json`, and `run` rejects a broken lab."""
    ran = json.loads(fresh_lab.run_checked("scenario", "run", "card-declined", "--json"))
    assert ran["run"]["scenario"] == "card-declined"
    assert len(ran["run"]["steps"]) == len(ALL["card-declined"].inject) + len(ALL["card-declined"].proof)
    healed = json.loads(fresh_lab.run_checked("scenario", "heal", "--json"))
    assert "every invariant holds" in healed["heal"]["steps"][-1][0]
    fresh_lab.lab.stop("shipping")
    refused = fresh_lab.run("scenario", "run", "card-declined")
    assert refused.returncode == 1
    assert "degraded" in refused.stderr
    assert "lab reset" in refused.stderr


def test_scenarios_can_be_listed_but_not_run_without_a_lab(harness: LabHarness) -> None:
    """`list` and `show` need no running lab, `run` names the next step, and an unknown name lists the valid ones."""
    listed = json.loads(harness.run_checked("scenario", "list", "--json"))
    assert [one["name"] for one in listed] == list(ALL)
    assert "Speak" not in harness.run_checked("scenario", "show", "retry-storm")
    with pytest.raises(NotRunning):
        Player(harness.lab).run(ALL["no-stock"])
    wrong = harness.run("scenario", "show", "nothing")
    assert wrong.returncode == 1
    assert "retry-storm" in wrong.stderr


def test_every_chapter_has_complete_scenarios() -> None:
    """Every chapter has scenarios, at least 20 in all, each with speaker notes, something to watch and a notebook."""
    assert len(ALL) >= 20
    assert {one.chapter for one in ALL.values()} == set(CHAPTERS)
    for one in ALL.values():
        assert one.say, one.name
        assert one.watch, one.name
        assert 1 <= one.minutes <= 15
        assert (ROOT / "notebooks" / f"{one.notebook}.ipynb").exists(), one.notebook


def test_every_step_has_a_description() -> None:
    """Every step of every scenario has a complete description."""
    for one in ALL.values():
        for words in [str(step) for part in (one.inject, one.proof, one.heal, one.healed) for step in part]:
            assert words.strip()
            assert "None" not in words


def test_every_verb_is_used() -> None:
    """Every verb occurs in a scenario, and is therefore tested."""
    used = {
        step.verb.name
        for one in ALL.values()
        for part in ("inject", "proof", "heal", "healed")
        for step in getattr(one, part)
    }
    assert used == set(VERBS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('chapter = "business"', 'chapter = "buisness"'), "unknown chapter 'buisness'"),
        (("minutes = 1\n", ""), "has no minutes"),
        (("story", "storey"), "unknown keys: storey"),
        (("stop =", "stopp ="), "exactly one verb"),
        (('{ stop = "payment" }', '{ stop = "payment", how = "hard" }'), r"inject, step 1 \(stop\): unknown keys: how"),
        ((', state = "stopped"', ""), "component requires state"),
        (('[{ start = "payment" }]', "[]"), "heal is empty"),
        (('title = "A test"', "title = "), "is not valid TOML"),
    ],
)
def test_invalid_scenario_file_is_rejected(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    """An error in a file is reported with its place and the valid values, before anything is done."""
    assert change[0] in VALID_SCENARIO
    with pytest.raises(ScenarioError, match=message) as refused:
        write(tmp_path, VALID_SCENARIO.replace(*change))
    assert refused.value.next_step


def test_charts_query_existing_metrics() -> None:
    """Every metric in a scenario's charts is in the table of metrics, or recorded by a rule."""
    documented = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rules = (ROOT / "lab-stack" / "prometheus" / "recording.rules.yml").read_text(encoding="utf-8")
    for one in ALL.values():
        for expression in one.charts.values():
            for name in METRIC.findall(re.sub(r"\{[^}]*\}|\[[^\]]*\]|by ?\([^)]*\)", "", expression)):
                assert f"`{name.removesuffix('_bucket')}`" in documented or f"record: {name}" in rules, (one.name, name)


def test_scenario_names_come_from_their_files() -> None:
    """A scenario has the name of its file without the number, and no two have the same name."""
    assert len(ALL) == len(list(FOLDER.glob("*.toml")))
    assert load_scenario("no-stock").title == ALL["no-stock"].title


def write(folder: Path, text: str) -> Scenario:
    (folder / "01-test.toml").write_text(text, encoding="utf-8")
    return load_scenario("test", folder)
