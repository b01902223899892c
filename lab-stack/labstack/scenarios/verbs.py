"""The verbs of a scenario's steps. Each is a function that receives the stage and the arguments in the file."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from labstack.scenarios.stage import ScenarioStage

OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
FIELD = re.compile(r"\{(\w+)")

Kind = Literal["fault", "action", "proof"]
"""Kind of a step: it injects a fault, it performs another action (an order, a repair), or it waits for a condition."""


@dataclass(frozen=True)
class Verb:
    """A verb of the scenarios' files.

    Attributes
    ----------
    name : str
        Name of the verb in the files.
    function : callable
        Called with the stage and the arguments in the file.
    kind : str
        ``fault``, ``action`` (another action) or ``proof``.
    words : str
        Description as a shell command or a sentence, with arguments in braces. Text in brackets is omitted if the file
        does not give its arguments.
    """

    name: str
    function: Callable[..., None]
    kind: Kind
    words: str

    @property
    def _parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self.function).parameters.values())[1:]

    @property
    def first(self) -> str:
        """Name of the first argument. In the file, its value stands after the verb's name: ``kill = "connect"``."""
        return self._parameters[0].name

    @property
    def options(self) -> frozenset[str]:
        """Names of the other arguments."""
        return frozenset(parameter.name for parameter in self._parameters[1:])

    @property
    def required(self) -> frozenset[str]:
        """Names of the other arguments that have no default."""
        return frozenset(p.name for p in self._parameters[1:] if p.default is inspect.Parameter.empty)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        """Return the description of a step; text in brackets appears only if the file gives its arguments."""
        values = {**{p.name: p.default for p in self._parameters}, **arguments}

        def part(match: re.Match[str]) -> str:
            return match[1] if all(name in arguments for name in FIELD.findall(match[1])) else ""

        return OPTIONAL.sub(part, self.words).format_map(values)

    def run(self, stage: ScenarioStage, arguments: Mapping[str, Any]) -> None:
        """Run the verb."""
        self.function(stage, **arguments)


VERBS: dict[str, Verb] = {}


def verb(kind: Kind, words: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a verb under the function's name."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        name = function.__name__
        VERBS[name] = Verb(name, function, kind, words)
        return function

    return register
