"""Markdown helpers for the reference's pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. Its cells contain Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell(word) for word in line)} |" for line in lines)


def cell(text: str) -> str:
    """Return a text in one line with escaped pipes, for a table cell."""
    return " ".join(text.split()).replace("|", "\\|")


def without_formulas(text: str) -> str:
    """Return a text with escaped dollar signs, so that it contains no formulas."""
    return text.replace("$", "\\$")


def anchor(name: str) -> str:
    """Return the line that defines a link target for the following block."""
    return f"({name})="


def join(*parts: str) -> str:
    """Return a page made of these parts; empty parts are left out."""
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"
