"""The area of a notebook's first cell that shows the current status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labstack.lifecycle.report import in_notebook, stages_html
from labstack.progress import Progress


@dataclass
class StatusArea:
    """An area below the cell for current status; empty at first, and empty at the end if there is nothing to report.

    nbval compares only its initial content, so its later content may differ between runs.
    """

    warnings: str = ""
    handle: Any = None

    def __post_init__(self) -> None:
        if in_notebook():
            self.handle = _display_handle()

    def show(self, warnings: str) -> None:
        """Show warnings, as HTML, until the end."""
        self.warnings = warnings
        self._update(warnings)

    def stages(self, progress: Progress) -> None:
        """Show the stages of a start below the warnings."""
        if progress.stages:
            self._update(self.warnings + stages_html(progress))

    def end(self, last: str = "") -> None:
        """Replace the stages by a last line of HTML."""
        self._update(self.warnings + last)

    def _update(self, content: str) -> None:
        if self.handle is not None:
            self.handle({"text/html": content, "text/plain": ""})


def _display_handle() -> Callable[[dict[str, str]], None]:
    from IPython.display import display

    handle: Any = display({"text/html": "", "text/plain": ""}, raw=True, display_id=True)
    return lambda bundle: handle.update(bundle, raw=True)
