"""Wording of messages: descriptions of values, and suggestions for misspelled names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any

FEW = 300
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def escaped(character: str) -> str:
    """Return a control character as an escape: ``\\n``, ``\\x00``."""
    return repr(character)[1:-1]


def seen(value: Any) -> str:
    """Return a value as a noun phrase: ``the number 5``, ``the string `foo```, ``a list``."""
    if value is None:
        return "an empty value"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the string `{short(value)}`" if value else "an empty string"
    return "a list" if isinstance(value, list) else "a mapping"


def short(text: str, limit: int = 60) -> str:
    """Return `text` on one line with its control characters escaped, truncated to `limit` characters."""
    line = CONTROL.sub(lambda found: escaped(found[0]), text)
    return line if len(line) <= limit else line[: limit - 3] + "..."


def plain(name: str) -> str:
    """Return a name without the most common differences: in lower case, without `_` and `-`."""
    return name.lower().replace("_", "").replace("-", "")


def likeness(one: str, other: str) -> float:
    """Return the similarity of two names, from 0 to 1."""
    return SequenceMatcher(None, plain(one[:200]), plain(other)).ratio()


def closest(name: str, candidates: Iterable[str], cutoff: float = 0.7) -> str | None:
    """Return the candidate that `name` probably stands for, or None if none is close."""
    best, score = None, cutoff
    every = list(candidates)
    if len(every) > FEW:  # comparison is slow: of many, keep those with the same first letters
        every = [candidate for candidate in every if plain(candidate)[:2] == plain(name)[:2]][:FEW]
    for candidate in every:
        matcher = SequenceMatcher(None, plain(name[:200]), plain(candidate))
        if matcher.real_quick_ratio() >= score and (ratio := matcher.ratio()) >= score and (not best or ratio > score):
            best, score = candidate, ratio
    return best


def did_you_mean(name: str, candidates: Iterable[str], cutoff: float = 0.6) -> str:
    """Return `` (did you mean `x`?)``, or an empty string if no candidate is close."""
    meant = closest(name, candidates, cutoff)
    return f" (did you mean `{meant}`?)" if meant is not None else ""


def listed(names: Iterable[str], limit: int = 30) -> str:
    """Return names in backticks, separated by commas. Names after the first `limit` are only counted."""
    every = list(names)
    text = ", ".join(f"`{short(name)}`" for name in every[:limit])
    return f"{text} and {len(every) - limit} more" if len(every) > limit else text
