"""A scenario as its file tells it, held against the verbs that there are before anything is done."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labstack.errors import LabError, one_of
from labstack.paths import CONFIG
from labstack.scenarios.verbs import VERBS, Verb

FOLDER = CONFIG / "scenarios"
CHAPTERS = ("business", "consumers", "relay", "broker and databases", "gateway", "events")
"""What a scenario breaks, in the order in which they are listed."""

TEXTS = ("title", "chapter", "notebook", "story")
LISTS = ("say", "watch")
STEPS = ("inject", "proof", "heal", "healed")


class ScenarioError(LabError):
    """A scenario's file is not as it should be, or there is no such scenario."""


@dataclass(frozen=True)
class Step:
    """One thing that a scenario does, or waits to see.

    Attributes
    ----------
    verb : Verb
        Which.
    arguments : mapping
        What the file says to it.
    """

    verb: Verb
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return self.verb.tell(self.arguments)


@dataclass(frozen=True)
class Scenario:
    """A failure to show.

    Attributes
    ----------
    name : str
        The file's name without its number, by which everything finds it.
    title : str
        One line.
    chapter : str
        What it breaks, one of `CHAPTERS`.
    notebook : str
        The notebook of the course that teaches it.
    minutes : int
        How long showing it takes, talk included.
    story : str
        What happens in the shop.
    say, watch : tuple of str
        Speaker notes; what the audience should look at.
    needs : tuple of str
        Components that not every lab has (``prometheus``).
    charts : mapping
        PromQL to draw beside it, by what it shows.
    inject, proof, heal, healed : tuple of Step
        Break it; see that it is broken; mend it; see what must be so afterwards, beside what must be so after every
        scenario.
    """

    name: str
    title: str
    chapter: str
    notebook: str
    minutes: int
    story: str
    say: tuple[str, ...]
    watch: tuple[str, ...]
    inject: tuple[Step, ...]
    proof: tuple[Step, ...]
    heal: tuple[Step, ...]
    healed: tuple[Step, ...]
    needs: tuple[str, ...] = ()
    charts: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it, with its steps in words."""
        steps = {part: [str(step) for step in getattr(self, part)] for part in STEPS}
        return {**self.__dict__, "charts": dict(self.charts), **steps}


def load_scenarios(folder: Path = FOLDER) -> dict[str, Scenario]:
    """Return every scenario by name, in the order of their chapters and files.

    Raises
    ------
    ScenarioError
        A file is not as it should be; says which, where, and what could stand there.
    """
    found = [_read(path) for path in sorted(folder.glob("*.toml"))]
    found.sort(key=lambda scenario: CHAPTERS.index(scenario.chapter))
    return {scenario.name: scenario for scenario in found}


def load_scenario(name: str, folder: Path = FOLDER) -> Scenario:
    """Return one scenario.

    Raises
    ------
    ScenarioError
        There is none of that name; says which there are.
    """
    scenarios = load_scenarios(folder)
    if name not in scenarios:
        raise ScenarioError(f"There is no scenario {name!r}.", next_step=one_of(name, scenarios))
    return scenarios[name]


def name_of(path: Path) -> str:
    """Return the name of a scenario's file: ``07-connect-killed.toml`` holds ``connect-killed``."""
    return path.stem.partition("-")[2] if path.stem[:1].isdigit() else path.stem


def _read(path: Path) -> Scenario:
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path.name} is no TOML: {error}.", next_step="mend it there") from error
    known = {*TEXTS, *LISTS, *STEPS, "minutes", "needs", "charts"}
    _none_left(path, "the file", set(said) - known, known)
    if missing := known - {"needs", "charts", "healed"} - set(said):
        raise ScenarioError(f"{path.name} has no {', '.join(sorted(missing))}.", next_step="add it")
    if said["chapter"] not in CHAPTERS:
        raise ScenarioError(
            f"{path.name}: there is no chapter {said['chapter']!r}.", next_step=f"use one of {', '.join(CHAPTERS)}"
        )
    texts = {key: str(said[key]).strip() for key in TEXTS}
    steps = {part: tuple(_step(path, part, n, one) for n, one in enumerate(said.get(part, []), 1)) for part in STEPS}
    for part in ("inject", "proof", "heal"):
        if not steps[part]:
            raise ScenarioError(
                f"{path.name}: {part} is empty.", next_step="a scenario that does nothing shows nothing"
            )
    whole: dict[str, Any] = {**texts, **steps, **{key: tuple(said.get(key, ())) for key in (*LISTS, "needs")}}
    return Scenario(name_of(path), minutes=int(said["minutes"]), charts=dict(said.get("charts", {})), **whole)


def _step(path: Path, part: str, number: int, said: Mapping[str, Any]) -> Step:
    where = f"{part}, step {number}"
    if not isinstance(said, Mapping) or len(verbs := [key for key in said if key in VERBS]) != 1:
        raise ScenarioError(
            f"{path.name}, {where}: {said!r} must have exactly one verb.", next_step=f"use one of {', '.join(VERBS)}"
        )
    verb = VERBS[verbs[0]]
    _none_left(path, f"{where} ({verb.name})", set(said) - {verb.name} - verb.options, verb.options)
    if missing := verb.required - set(said):
        raise ScenarioError(
            f"{path.name}, {where}: {verb.name} wants {', '.join(sorted(missing))}.", next_step="add it"
        )
    return Step(verb, {**{k: v for k, v in said.items() if k != verb.name}, verb.first: said[verb.name]})


def _none_left(path: Path, where: str, left: set[str], known: set[str] | frozenset[str]) -> None:
    if left:
        raise ScenarioError(
            f"{path.name}, {where}: nobody knows {', '.join(sorted(left))}.",
            next_step=f"use of {', '.join(sorted(known)) or 'none'}",
        )
