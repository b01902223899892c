"""The page of the instructor's scenarios, made from their files. Without files, there is no page."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from tools.book.reference.markdown import anchor, join, table

FOLDER = "lab-stack/scenarios"
HEADINGS = {"title", "name", "minutes"}

OPENING = """
# Scenarios

Failures to show live, one file each: `lab scenario list`, `show`, `run`, `heal`.
"""


def page(root: Path) -> str | None:
    """Return the page, or `None` if there are no scenarios."""
    files = sorted((root / FOLDER).glob("*.toml"))
    if not files:
        return None
    scenarios = [(path.stem, tomllib.loads(path.read_text(encoding="utf-8"))) for path in files]
    rows = [
        (f"[`{name}`](#scenario-{name})", str(one.get("title", "")), str(one.get("minutes", "")))
        for name, one in scenarios
    ]
    parts = [part for name, one in scenarios for part in section(name, one)]
    return join(OPENING, table(["name", "what it shows", "minutes"], rows), *parts)


def section(name: str, scenario: dict[str, Any]) -> list[str]:
    """Return the section of one scenario, with all of its keys."""
    rows = [(key.replace("_", " "), formatted(value)) for key, value in scenario.items() if key not in HEADINGS]
    title = scenario.get("title", name)
    return [anchor(f"scenario-{name}"), f"## {title}", f"`lab scenario run {name}`", table(["", ""], rows)]


def formatted(value: Any) -> str:
    """Return a value of a scenario's file as one line of Markdown."""
    if isinstance(value, dict):
        return "; ".join(f"{key}: {formatted(one)}" for key, one in value.items())
    if isinstance(value, list):
        return "; ".join(formatted(one) for one in value)
    return str(value)
