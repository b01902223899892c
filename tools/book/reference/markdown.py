"""What the reference's pages are written with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; what stands in a cell is Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell(word) for word in line)} |" for line in lines)


def cell(text: str) -> str:
    """Return a text that stays within its cell."""
    return " ".join(text.split()).replace("|", "\\|")


def without_formulas(text: str) -> str:
    """Return a text in which a dollar is a dollar."""
    return text.replace("$", "\\$")


def anchor(name: str) -> str:
    """Return the line that gives what follows a name to link to."""
    return f"({name})="


def join(*parts: str) -> str:
    """Return a page of these parts."""
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"
