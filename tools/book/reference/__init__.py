"""The reference: pages that each build of the book generates from the code, the event contracts and the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tools.book.reference import events, exercises, metrics, python, scenarios, settings, verbs

PAGES: Mapping[str, Callable[[Path], str | None]] = {
    "verbs": verbs.page,
    "python": python.page,
    "settings": settings.page,
    "events": events.page,
    "metrics": metrics.page,
    "exercises": exercises.page,
    "scenarios": scenarios.page,
}
"""Functions that return a page for the repository's root, or None if there is no page; in the book's order."""


def pages(root: Path) -> dict[str, str]:
    """Return the reference's pages as Markdown, by path relative to the book's root."""
    made = {name: page(root) for name, page in PAGES.items()}
    return {f"reference/{name}.md": text for name, text in made.items() if text is not None}
