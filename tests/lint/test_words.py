"""The project's prose uses the field's words, as CONTRIBUTING.md asks."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (
    "labservices",
    "lab-stack",
    "labkit",
    "notebooks",
    "docs",
    "deploy",
    "datasets",
    "benchmarks",
    "tools",
    "tests",
)

INSTEAD = {
    r"whoever|whomever": "the actor's name",
    r"somebody|nobody": "the actor's name",
    r"anew": "again",
    r"upon|thereof|thereby|hereby|whence": "a shorter word",
    r"in good order|as it were|so to speak": "nothing",
    r"tak(e|es|ing|en) (it|them|this)? ?down|took down": "record, or stop",
    r"carr(y|ies|ied) on|see(s|n)? off|put(s|ting)? off": "continue, stop, retry or delay",
    r"bury|buries|buried": "dead-letter",
    r"tired (machine|host)": "overloaded machine",
    r"guest service|learner's guest": "extension service",
    r"watche[rd] by the lab's eyes|deeds?": "fault switch",
    r"(?<!there )(is|are) no (?!longer|more|less|such|only)": "is not a",
    r"of (its|their) own(?= *([.,;:)]|$))": "separate",
    r"utili[sz]es?|utili[sz]ing|leverag(e|es|ing)|in order to": "use, or to",
}
"""Words that tire the reader, as regular expressions, and what to write instead."""

QUOTED = re.compile(r"```.*?```|``.*?``|`[^`\n]*`|\"[^\"\n]*\"|<[^>]*>", re.S)
"""Code and quotations, which keep their words."""


def banned_words(text: str) -> list[str]:
    """Return each banned word of a text with its replacement."""
    plain = QUOTED.sub(" ", text)
    return [
        f"{found[0]!r}: write {better}"
        for words, better in INSTEAD.items()
        for found in re.finditer(rf"\b({words})\b", plain, re.I | re.M)
    ]


def prose_of_python(source: str) -> Iterator[str]:
    """Yield the docstrings and comments of a Python file."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text
    yield from re.findall(r"#.*", source)


def prose_of(path: Path) -> list[str]:
    """Return the texts of a file that people read."""
    content = path.read_text(encoding="utf-8")
    match path.suffix:
        case ".py":
            return list(prose_of_python(content))
        case ".ipynb":
            return ["".join(cell["source"]) for cell in json.loads(content)["cells"] if cell["cell_type"] == "markdown"]
        case _:
            return [content]


@pytest.mark.parametrize("kind", ["md", "py", "ipynb"])
def test_prose_uses_the_fields_words(kind: str) -> None:
    """No document, docstring, comment or paragraph of a notebook contains a banned word."""
    everywhere = [path for folder in FOLDERS for path in (ROOT / folder).rglob(f"*.{kind}")]
    files = [
        path
        for path in (*ROOT.glob(f"*.{kind}"), *everywhere)
        if path != Path(__file__) and ".ipynb_checkpoints" not in path.parts
    ]
    assert len(files) > 10
    found = {str(path.relative_to(ROOT)): words for path in files if (words := banned_words("\n".join(prose_of(path))))}
    assert found == {}


def test_a_banned_word_is_found() -> None:
    """A banned word is found in a docstring, with its replacement, but not in code or a quotation."""
    source = 'def f():\n    """Start anew, whoever asks, upon `nobody`."""  # "somebody" else\n'
    assert banned_words("\n".join(prose_of_python(source))) == [
        "'whoever': write the actor's name",
        "'anew': write again",
        "'upon': write a shorter word",
    ]
