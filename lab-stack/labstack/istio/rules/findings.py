"""The findings of the rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from labstack.istio.documents import Document
from labstack.istio.errors import Problem

Path = tuple[str | int, ...]


@dataclass
class Findings:
    """The problems and warnings of one document.

    Parameters
    ----------
    document : Document
        The document, which provides the file name and line numbers.
    """

    document: Document
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def add_problem(self, path: Path, message: str) -> None:
        """Record a problem: a value that Istio or Envoy would reject or silently drop."""
        self.problems.append(self.document.problem(path, message))

    def add_warning(self, path: Path, message: str) -> None:
        """Record a warning: a value that Istio accepts but that probably does not do what its author intends."""
        self.warnings.append(self.document.problem(path, message))
