"""The words of a scenario's steps: each verb is a function that takes the stage and what the file says to it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from labstack.scenarios.stage import Stage

OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
FIELD = re.compile(r"\{(\w+)")

Kind = Literal["fault", "deed", "proof"]
"""What a step is: it breaks something, it only does something (an order, a repair), or it waits to see something."""


@dataclass(frozen=True)
class Verb:
    """A verb of the scenarios' files.

    Attributes
    ----------
    name : str
        By which the files call it.
    does : callable
        Takes the stage, and what the file says.
    kind : str
        ``fault``, ``deed`` or ``proof``.
    words : str
        What it does, as a shell command or a sentence, with the arguments in braces, and in brackets what is left out
        where the file is silent.
    """

    name: str
    does: Callable[..., None]
    kind: Kind
    words: str

    @property
    def _parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self.does).parameters.values())[1:]

    @property
    def first(self) -> str:
        """The name of the argument that stands behind the verb itself."""
        return self._parameters[0].name

    @property
    def options(self) -> frozenset[str]:
        """The names of the other arguments."""
        return frozenset(parameter.name for parameter in self._parameters[1:])

    @property
    def required(self) -> frozenset[str]:
        """Those of the other arguments that have no default."""
        return frozenset(p.name for p in self._parameters[1:] if p.default is inspect.Parameter.empty)

    def tell(self, arguments: Mapping[str, Any]) -> str:
        """Say what the step does; what stands in brackets only where the file says something to it."""
        said = {**{p.name: p.default for p in self._parameters}, **arguments}

        def part(match: re.Match[str]) -> str:
            return match[1] if all(name in arguments for name in FIELD.findall(match[1])) else ""

        return OPTIONAL.sub(part, self.words).format_map(said)

    def run(self, stage: Stage, arguments: Mapping[str, Any]) -> None:
        """Do it."""
        self.does(stage, **arguments)


VERBS: dict[str, Verb] = {}


def verb(kind: Kind, words: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a verb of its own name."""

    def register(does: Callable[..., None]) -> Callable[..., None]:
        name = does.__name__
        VERBS[name] = Verb(name, does, kind, words)
        return does

    return register


# The modules that fill the table; they need `verb` above.
from labstack.scenarios import actions, proofs  # noqa: E402, F401
