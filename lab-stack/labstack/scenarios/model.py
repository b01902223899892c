"""The model of a scenario, read from its file and validated against the known verbs before any step runs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labstack.config.paths import CONFIG
from labstack.errors import LabError, one_of
from labstack.scenarios import actions, proofs  # noqa: F401  # they register the verbs
from labstack.scenarios.verbs import VERBS, Verb

FOLDER = CONFIG / "scenarios"
CHAPTERS = ("business", "consumers", "relay", "broker and databases", "gateway", "events")
"""The areas that scenarios break, in the order of the list."""

TEXTS = ("title", "chapter", "notebook", "story")
LISTS = ("say", "watch")
STEPS = ("inject", "proof", "heal", "healed")


class ScenarioError(LabError):
    """A scenario's file is invalid, or the scenario does not exist."""


@dataclass(frozen=True)
class ScenarioStep:
    """One action or check of a scenario.

    Attributes
    ----------
    verb : Verb
        The verb to run.
    arguments : mapping
        The verb's arguments in the file.
    """

    verb: Verb
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return self.verb.describe(self.arguments)


@dataclass(frozen=True)
class Scenario:
    """A failure to show.

    Attributes
    ----------
    name : str
        Name of the file without its number; the identifier of the scenario.
    title : str
        One line.
    chapter : str
        The area that it breaks, one of `CHAPTERS`.
    notebook : str
        The notebook of the course that teaches the failure.
    minutes : int
        Duration of the presentation, with the talk.
    story : str
        The events in the shop.
    say, watch : tuple of str
        Speaker notes; hints for the audience.
    needs : tuple of str
        Required components that not every lab has (``prometheus``).
    charts : mapping
        PromQL to draw beside the scenario, by the chart's title.
    inject, proof, heal, healed : tuple of ScenarioStep
        Break the lab; check that it is broken; repair it; check the conditions that must hold afterwards, in addition
        to those of every scenario.
    """

    name: str
    title: str
    chapter: str
    notebook: str
    minutes: int
    story: str
    say: tuple[str, ...]
    watch: tuple[str, ...]
    inject: tuple[ScenarioStep, ...]
    proof: tuple[ScenarioStep, ...]
    heal: tuple[ScenarioStep, ...]
    healed: tuple[ScenarioStep, ...]
    needs: tuple[str, ...] = ()
    charts: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the scenario as a JSON object, with its steps in words."""
        steps = {part: [str(step) for step in getattr(self, part)] for part in STEPS}
        return {**self.__dict__, "charts": dict(self.charts), **steps}


def load_scenarios(folder: Path = FOLDER) -> dict[str, Scenario]:
    """Return every scenario by name, in the order of their chapters and files.

    Raises
    ------
    ScenarioError
        A file is invalid; names the file, the position, and the valid values.
    """
    found = [_read(path) for path in sorted(folder.glob("*.toml"))]
    found.sort(key=lambda scenario: CHAPTERS.index(scenario.chapter))
    return {scenario.name: scenario for scenario in found}


def load_scenario(name: str, folder: Path = FOLDER) -> Scenario:
    """Return one scenario.

    Raises
    ------
    ScenarioError
        The scenario does not exist; lists the existing ones.
    """
    scenarios = load_scenarios(folder)
    if name not in scenarios:
        raise ScenarioError(f"Unknown scenario {name!r}.", next_step=one_of(name, scenarios))
    return scenarios[name]


def name_of(path: Path) -> str:
    """Return the scenario name of a file: ``connect-killed`` for ``07-connect-killed.toml``."""
    return path.stem.partition("-")[2] if path.stem[:1].isdigit() else path.stem


def _read(path: Path) -> Scenario:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path.name} is not valid TOML: {error}.", next_step="fix the file") from error
    known = {*TEXTS, *LISTS, *STEPS, "minutes", "needs", "charts"}
    _reject_unknown_keys(path, "the file", set(values) - known, known)
    if missing := known - {"needs", "charts", "healed"} - set(values):
        raise ScenarioError(f"{path.name} has no {', '.join(sorted(missing))}.", next_step="add the missing keys")
    if values["chapter"] not in CHAPTERS:
        raise ScenarioError(
            f"{path.name}: unknown chapter {values['chapter']!r}.",
            next_step=one_of(str(values["chapter"]), CHAPTERS),
        )
    texts = {key: str(values[key]).strip() for key in TEXTS}
    steps = {part: tuple(_step(path, part, n, one) for n, one in enumerate(values.get(part, []), 1)) for part in STEPS}
    for part in ("inject", "proof", "heal"):
        if not steps[part]:
            raise ScenarioError(f"{path.name}: {part} is empty.", next_step="add at least one step")
    arguments: dict[str, Any] = {**texts, **steps, **{key: tuple(values.get(key, ())) for key in (*LISTS, "needs")}}
    return Scenario(name_of(path), minutes=int(values["minutes"]), charts=dict(values.get("charts", {})), **arguments)


def _step(path: Path, part: str, number: int, values: Mapping[str, Any]) -> ScenarioStep:
    where = f"{part}, step {number}"
    if not isinstance(values, Mapping) or len(verbs := [key for key in values if key in VERBS]) != 1:
        raise ScenarioError(
            f"{path.name}, {where}: {values!r} must have exactly one verb.", next_step=f"use one of {', '.join(VERBS)}"
        )
    verb = VERBS[verbs[0]]
    _reject_unknown_keys(path, f"{where} ({verb.name})", set(values) - {verb.name} - verb.options, verb.options)
    if missing := verb.required - set(values):
        raise ScenarioError(
            f"{path.name}, {where}: {verb.name} requires {', '.join(sorted(missing))}.",
            next_step="add the missing keys",
        )
    return ScenarioStep(verb, {**{k: v for k, v in values.items() if k != verb.name}, verb.first: values[verb.name]})


def _reject_unknown_keys(path: Path, where: str, unknown: set[str], known: set[str] | frozenset[str]) -> None:
    if unknown:
        raise ScenarioError(
            f"{path.name}, {where}: unknown keys: {', '.join(sorted(unknown))}.",
            next_step=f"use one of {', '.join(sorted(known)) or 'none'}",
        )
