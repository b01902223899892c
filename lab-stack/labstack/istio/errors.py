"""Errors in a mesh configuration, as a branch of the lab's errors.

LabError
└── MeshError          a configuration is invalid; lists each problem with its location
    ├── InvalidYaml    the text is not YAML, or its documents are not Kubernetes objects
    ├── InvalidMesh    the objects violate Istio's schema, or refer to missing objects
    └── Unsupported    valid for Istio, but not supported by the lab's translator
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labstack.errors import LabError

SHOWN = 20


@dataclass(frozen=True)
class Problem:
    """One problem or warning at one location in a file.

    Parameters
    ----------
    file : str
        Display name of the file.
    line : int
        Line, counted from 1.
    field : str
        Path inside the document, such as ``spec.http[0].route[0].weight``; empty if there is none.
    message : str
        The value found and the value expected.
    """

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        location = f"{self.file}:{self.line}"
        return f"{location}: {self.field}: {self.message}" if self.field else f"{location}: {self.message}"


def numbered(problems: Iterable[Problem], limit: int = SHOWN) -> str:
    """Return `problems` as a numbered list. Problems after the first `limit` are only counted."""
    every = list(problems)
    lines = [f"{number}. {problem}" for number, problem in enumerate(every[:limit], start=1)]
    if len(every) > limit:
        lines.append(f"... and {len(every) - limit} more")
    return "\n".join(lines)


class MeshError(LabError):
    """A mesh configuration is invalid.

    Parameters
    ----------
    problem : str
        Summary in one sentence.
    problems : sequence of Problem, optional
        The individual problems with their locations. The text of the error lists them.
    next_step : str, optional
        Suggested next step.
    """

    def __init__(self, problem: str, *, problems: Sequence[Problem] = (), next_step: str = "") -> None:
        text = f"{problem}\n{numbered(problems)}" if problems else problem
        super().__init__(text, next_step=next_step)
        self.problems = list(problems)


class InvalidYaml(MeshError):
    """The text is not YAML, or its documents are not Kubernetes objects."""


class InvalidMesh(MeshError):
    """The objects violate Istio's schema, or refer to missing objects."""


class Unsupported(MeshError):
    """Valid for Istio, but not supported by the lab's translator."""
