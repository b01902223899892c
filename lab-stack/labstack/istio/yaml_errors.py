"""Readable messages for YAML syntax errors: the text found, and a correction.

The parser's own messages ("did not find expected '-' indicator") describe the parser's state, but a learner sees only a
line. The parser's message remains as a fallback.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

GLUED = re.compile(r"\s*(- +)?[\w.-]+:[^\s/]")


def describe_error(error: yaml.YAMLError, text: str) -> tuple[int, int, str]:
    """Return line and column (counted from 1) of a parser error, and a description of the error."""
    mark: Any = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        found = UNPRINTABLE.search(text)
        at = found.start() if found else 0
        line_start = text.rfind("\n", 0, at) + 1
        message = f"YAML does not allow the control character U+{ord(found.group()):04X}" if found else str(error)
        return text.count("\n", 0, at) + 1, at - line_start + 1, message
    problem = str(getattr(error, "problem", "") or "")
    context = str(getattr(error, "context", "") or "")
    context_mark: Any = getattr(error, "context_mark", None)
    lines = text.split("\n")
    if "simple key" in context and context_mark is not None:
        mark = context_mark
    before = next((n for n in range(min(mark.line, len(lines)) - 1, -1, -1) if lines[n].strip()), None)
    if "mapping values are not allowed" in problem and before is not None and GLUED.match(lines[before]):
        column = len(lines[before]) - len(lines[before].lstrip()) + 1
        return before + 1, column, f"`{lines[before].strip()[:60]}` has no space after its `:`"
    source = lines[mark.line] if mark.line < len(lines) else ""
    if "simple key" in context and GLUED.match(source):
        return mark.line + 1, mark.column + 1, f"`{source.strip()[:60]}` has no space after its `:`"
    description = _describe(problem, context, source, mark.column, context_mark)
    return mark.line + 1, mark.column + 1, description


def _describe(problem: str, context: str, source: str, column: int, context_mark: Any) -> str:
    here = source[column : column + 1]
    quoted_line = f"`{source.strip()[:60]}`" if source.strip() else "the end of the text"
    opened = f"line {context_mark.line + 1}" if context_mark is not None else "an earlier line"
    if "\t" in source[: column + 1] and not source[: column + 1].strip():
        return "a tab; YAML allows only spaces for indentation"
    if "alias" in context:
        return 'in YAML, a `*` without quotes refers to an anchor; write it as "*"'
    if "anchor" in context:
        return "in YAML, a `&` without quotes defines an anchor; put the text in quotes"
    if "cannot start" in problem:
        return f"a value can't start with `{here}`; put the text in quotes"
    if "quoted scalar" in context:
        if "escape" in problem:
            return (
                f"{quoted_line} has an escape sequence that YAML does not support in double quotes; use single quotes"
            )
        return f"the quote that opens on {opened} is never closed"
    if "flow" in context and ("'}'" in problem or "']'" in problem):
        bracket = "}" if "mapping" in context else "]"
        return (
            f"expected `,` or `{bracket}`, found {quoted_line}: "
            f"the bracket that opens on {opened} is not closed, or a comma is missing"
        )
    if "simple key" in context:
        return (
            f"{quoted_line} is not a field, because no `:` and space follow it; "
            "an earlier line may be indented incorrectly"
        )
    if "mapping values are not allowed" in problem:
        return f"{quoted_line} has a `:` where none is allowed: the line is indented incorrectly, or quotes are missing"
    if "sequence entries are not allowed" in problem:
        return f"{quoted_line} starts a list where none is allowed; put the list on a new, indented line"
    if "block mapping" in context or "block collection" in context:
        kind = "fields" if "mapping" in context else "list items"
        return f"{quoted_line} is not indented like the {kind} that start on {opened}, or does not belong to them"
    if "node content" in problem or "node" in context:
        return (
            f"expected a value, found `{here}` in {quoted_line}"
            if here.strip()
            else f"{quoted_line}: a value is missing"
        )
    return f"{quoted_line}: {problem}"
