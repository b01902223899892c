"""The documents of a mesh configuration: Kubernetes objects with the line number of each field."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from labstack.istio.errors import InvalidMesh, InvalidYaml, MeshError, Problem, Unsupported
from labstack.istio.yaml_text import SIZE_LIMIT, parse

__all__ = [
    "Document",
    "InvalidMesh",
    "InvalidYaml",
    "MeshError",
    "Problem",
    "Unsupported",
    "field_path",
    "load",
    "read",
    "resources",
]

Lines = dict[tuple[str | int, ...], int]

TOP_LEVEL = ("apiVersion", "kind", "metadata", "spec")


@dataclass(frozen=True)
class Document:
    """One Kubernetes object, as written.

    Parameters
    ----------
    file : str
        Display name of the file; ``<text>`` for text that does not come from a file.
    data : dict
        The parsed object. `kind`, `apiVersion` and `metadata.name` are non-empty strings, and so is
        `metadata.namespace` if present. Nothing else is guaranteed.
    lines : mapping
        The line, counted from 1, of every key and list item, by its path, such as ``("spec", "http", 0, "route")``.
    """

    file: str
    data: dict[str, Any]
    lines: Mapping[tuple[str | int, ...], int]

    @property
    def kind(self) -> str:
        """The kind, such as ``VirtualService``."""
        return str(self.data["kind"])

    @property
    def api_version(self) -> str:
        """Group and version, such as ``networking.istio.io/v1``."""
        return str(self.data["apiVersion"])

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.data["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """The object's namespace; ``default`` if it names none."""
        return str(self.data["metadata"].get("namespace") or "default")

    @property
    def spec(self) -> dict[str, Any]:
        """The spec; empty if there is none."""
        spec = self.data.get("spec")
        return spec if isinstance(spec, dict) else {}

    def line(self, *path: str | int) -> int:
        """Return the line of the field at `path`, or of its nearest ancestor in the file."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1

    def problem(self, path: tuple[str | int, ...], message: str) -> Problem:
        """Return a `Problem` at the field `path` of this document."""
        return Problem(self.file, self.line(*path), field_path(path), message)


def field_path(path: tuple[str | int, ...]) -> str:
    """Return a path in readable form: ``spec.http[0].match[1].headers["a.b"]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not part or any(c in part for c in '.[]" \n'):
            text += '["' + part.replace("\n", "\\n") + '"]'
        else:
            text += f".{part}" if text else part
    return text


def load(text: str, file: str = "<text>") -> list[Document]:
    """Return the documents of a YAML text, without empty ones. A ``kind: List``, as kubectl prints it, is its items.

    Raises
    ------
    InvalidYaml
        The text is not YAML, or one of its documents has no kind, apiVersion or metadata.name. The error lists each
        problem with its line.
    """
    documents, problems = [], []
    for value, lines in _objects(parse(text, file)):
        wrong = _header_problems(file, value, lines)
        problems += wrong
        if not wrong:
            documents.append(Document(file, value, lines))
    if problems:
        raise InvalidYaml(
            f"{file} contains a document that is not a Kubernetes object.",
            problems=problems,
            next_step="start each document with apiVersion, kind, metadata: {name: ...} and spec",
        )
    return documents


def _objects(parsed: Iterable[tuple[Any, Lines, int]]) -> Iterator[tuple[Any, Lines]]:
    """Yield each object with its lines. A list object is replaced by its items."""
    for value, lines, start in parsed:
        lines[()] = start
        items = value.get("items") if isinstance(value, dict) and value.get("kind") == "List" else None
        if not isinstance(items, list):
            yield value, lines
            continue
        by_item: dict[str | int, Lines] = defaultdict(dict)
        for path, line in lines.items():
            if path[0:1] == ("items",) and len(path) > 1:
                by_item[path[1]][path[2:]] = line
        yield from ((item, by_item[index]) for index, item in enumerate(items))


def resources(source: str | Path) -> list[Document]:
    """Return the documents of a YAML file or text that a user wants to apply or to translate.

    Parameters
    ----------
    source : str or Path
        YAML text, or the path of a YAML file; ``Path("-")`` is the standard input.

    Raises
    ------
    InvalidYaml
        See `read` and `load`; or it contains no object at all.
    """
    if isinstance(source, str):
        if source.endswith((".yaml", ".yml")) and "\n" not in source:
            raise InvalidYaml(f"{source!r} is a path, not YAML text.", next_step=f"write Path({source!r})")
        name, documents = "the text", load(source)
    elif str(source) == "-":
        name, documents = "the standard input", load(_text(sys.stdin.buffer.read(SIZE_LIMIT + 1), "<stdin>"), "<stdin>")
    else:
        name, documents = str(source), read(source)
    if not documents:
        raise InvalidYaml(
            f"{name} contains no resource.",
            next_step="write at least one document with apiVersion, kind, metadata: {name: ...} and spec",
        )
    return documents


def read(path: Path, name: str = "") -> list[Document]:
    """Return the documents of a YAML file. `name` is its display name; the default is its path.

    Raises
    ------
    InvalidYaml
        The file can't be read, is not a regular file, is too large or is not UTF-8 text, or `load` rejects its content.
    """
    name = name or str(path)
    try:
        if path.exists() and not path.is_file():
            raise InvalidYaml(
                f"{name} can't be read: it is not a regular file.",
                next_step="use the path of a YAML file, or - and a pipe",
            )
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise InvalidYaml(
            f"{name} can't be read: {reason}.", next_step="use the path of an existing YAML file"
        ) from None
    return load(_text(raw, name), name)


def _text(raw: bytes, name: str) -> str:
    if len(raw) > SIZE_LIMIT:
        raise InvalidYaml(
            f"{name} has more than {SIZE_LIMIT:,} bytes.",
            next_step="split it into several files",
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        parse_problem = Problem(name, line, "", f"the byte 0x{raw[error.start]:02x} is not valid UTF-8")
        raise InvalidYaml(
            f"{name} is not a text file.", problems=[parse_problem], next_step="save it as UTF-8"
        ) from None


def _header_problems(file: str, value: Any, lines: Mapping[tuple[str | int, ...], int]) -> list[Problem]:
    start = lines[()]
    if not isinstance(value, dict):
        what = "a list" if isinstance(value, list) else f"`{str(value)[:40]}`"
        return [Problem(file, start, "", f"expected an object with apiVersion, kind, metadata and spec, found {what}")]
    problems = []
    for name in ("apiVersion", "kind"):
        problems += _string_problem(file, value, (name,), lines, required=True)
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        problems += _string_problem(file, value, ("metadata", "name"), lines, required=True)
        problems += _string_problem(file, value, ("metadata", "namespace"), lines, required=False)
    elif metadata is None:
        problems += _string_problem(file, value, ("metadata",), lines, required=True)
    else:
        seen = "a list" if isinstance(metadata, list) else f"`{str(metadata)[:40]}`"
        problems.append(
            Problem(file, lines[("metadata",)], "metadata", f"expected a mapping such as {{name: order}}, found {seen}")
        )
    return problems


def _string_problem(
    file: str,
    value: dict[str, Any],
    path: tuple[str, ...],
    lines: Mapping[tuple[str | int, ...], int],
    *,
    required: bool,
) -> list[Problem]:
    parent = value
    for part in path[:-1]:
        parent = parent[part]
    name, line = path[-1], lines.get(path, lines.get(path[:-1], lines[()]))
    seen = parent.get(name)
    if isinstance(seen, str) and seen:
        return []
    if seen is None or seen == "":
        if not required:
            return []
        known = TOP_LEVEL if len(path) == 1 else ("name", "namespace", "labels", "annotations")
        close = [key for key in parent if key not in known and get_close_matches(name, [key], cutoff=0.6)]
        if close:
            line = lines.get((*path[:-1], close[0]), line)
            return [Problem(file, line, field_path((*path[:-1], close[0])), f"unknown field (did you mean `{name}`?)")]
        missing = "is empty" if name in parent else "is missing"
        example = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": "{name: order}"}
        return [
            Problem(
                file,
                line,
                field_path(path),
                f"{missing}; expected a value such as `{name}: {example.get(name, 'order')}`",
            )
        ]
    what = {dict: "a mapping", list: "a list", bool: "a boolean", int: "a number", float: "a number"}[type(seen)]
    return [
        Problem(file, line, field_path(path), f"expected a string, found {what}; if it is a name, put it in quotes")
    ]
