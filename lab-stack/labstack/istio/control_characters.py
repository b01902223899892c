"""Control characters in names and values: Envoy rejects them, because they could split a header of a request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from labstack.istio.documents import Document
from labstack.istio.errors import Problem
from labstack.istio.model.configs import Path
from labstack.istio.words import escaped, short

NOT_ALLOWED = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
BODY = ("directResponse", "body", "string")
"""The end of the path of the only value that becomes no name, header or path."""


def control_characters(document: Document) -> Iterator[Problem]:
    """Yield a problem for each name or value of a spec that contains a control character other than a tab."""
    for path, text in _texts(document.spec, ("spec",)):
        if (found := NOT_ALLOWED.search(text)) and path[-3:] != BODY:
            message = f"`{short(text)}` contains the control character {escaped(found[0])}; remove it"
            yield document.problem(path, message)


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key), key
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))
