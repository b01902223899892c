"""What can be wrong with a mesh configuration, as a branch of the lab's errors.

LabError
└── MeshError          something is wrong with a configuration; carries each problem with its place
    ├── InvalidYaml    the text is not YAML, or what it holds are not Kubernetes objects
    ├── InvalidMesh    the objects break Istio's schema, or name things that aren't there
    └── Unsupported    valid for Istio, but not something that the lab's translator does
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labstack.errors import LabError

SHOWN = 20


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or doubtful, at one place of a file.

    Parameters
    ----------
    file : str
        The file's name as people know it.
    line : int
        Counted from 1.
    field : str
        The path inside the document, such as ``spec.http[0].route[0].weight``; empty where there is none.
    message : str
        What was seen, and what is expected.
    """

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}"
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


def numbered(problems: Iterable[Problem], limit: int = SHOWN) -> str:
    """Return `problems` as a numbered list; those after the first `limit` are only counted."""
    every = list(problems)
    lines = [f"{number}. {problem}" for number, problem in enumerate(every[:limit], start=1)]
    if len(every) > limit:
        lines.append(f"... and {len(every) - limit} more")
    return "\n".join(lines)


class MeshError(LabError):
    """Something is wrong with a mesh configuration.

    Parameters
    ----------
    problem : str
        What was tried.
    problems : sequence of Problem, optional
        Each thing that is wrong, with its place; they stand in the text of the error.
    next_step : str, optional
        What to do about it.
    """

    def __init__(self, problem: str, *, problems: Sequence[Problem] = (), next_step: str = "") -> None:
        text = f"{problem}\n{numbered(problems)}" if problems else problem
        super().__init__(text, next_step=next_step)
        self.problems = list(problems)


class InvalidYaml(MeshError):
    """The text is not YAML, or what it holds are not Kubernetes objects."""


class InvalidMesh(MeshError):
    """The objects break Istio's schema, or name things that aren't there."""


class Unsupported(MeshError):
    """Valid for Istio, but not something that the lab's translator does."""
