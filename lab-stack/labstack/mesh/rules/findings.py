"""Where the rules note what they find."""

from __future__ import annotations

from dataclasses import dataclass, field

from labstack.mesh.documents import Document
from labstack.mesh.errors import Problem

Path = tuple[str | int, ...]


@dataclass
class Findings:
    """What is wrong, and what is only doubtful, in one document.

    Parameters
    ----------
    document : Document
        Gives file and lines.
    """

    document: Document
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def wrong(self, path: Path, message: str) -> None:
        """Note what Istio or Envoy would refuse, or would lose without a word."""
        self.problems.append(self.document.problem(path, message))

    def doubtful(self, path: Path, message: str) -> None:
        """Note what Istio takes, and what will probably not do what its writer wants."""
        self.warnings.append(self.document.problem(path, message))
