"""The reference: pages that are made from the code, the event contracts and the rules, each time the book is built."""

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
"""What makes each page from the repository's root, in the order in which they are read; None where there is nothing."""


def pages(root: Path) -> dict[str, str]:
    """Return the reference's pages as Markdown, by path from the book's root."""
    made = {name: page(root) for name, page in PAGES.items()}
    return {f"reference/{name}.md": text for name, text in made.items() if text is not None}
