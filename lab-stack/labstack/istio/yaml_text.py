"""Parsing of YAML text into plain values, with the line of every key and list item, and with size limits.

PyYAML (with libyaml if available) parses the text into events. The tree is built here, because PyYAML's own composer
(`yaml.compose`) crashes the process on a text that nests some thousands of levels deep, rejects an anchor that is
defined twice, which Istio accepts, and does not distinguish `1` from `!!int 1`. So the limits are checked while the
tree grows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from labstack.istio import scalars
from labstack.istio.errors import InvalidYaml, Problem
from labstack.istio.yaml_errors import describe_error

SIZE_LIMIT = 4 * 2**20  # bytes
NODE_LIMIT = 300_000
ALIAS_LIMIT = 20_000  # nodes from aliases, summed over all expansions
DEPTH_LIMIT = 64
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Path = tuple[str | int, ...]


@dataclass
class Node:
    """A value with its position. `content` is a scalar, a list of nodes, or a list of pairs of nodes."""

    line: int
    column: int
    kind: str
    content: Any
    size: int = 1
    depth: int = 0


@dataclass
class _Reader:
    text: str
    file: str
    loader: Any
    anchors: dict[str, Node] = field(default_factory=dict)
    nodes: int = 0
    expanded: int = 0

    def refuse(self, line: int, column: int, message: str) -> InvalidYaml:
        parse_problem = Problem(self.file, line, "", f"column {column}: {message}")
        return InvalidYaml(
            f"{self.file} can't be parsed as YAML.",
            problems=[parse_problem],
            next_step=f"fix line {line} of {self.file}",
        )

    def at(self, event: Any, message: str) -> InvalidYaml:
        return self.refuse(event.start_mark.line + 1, event.start_mark.column + 1, message)

    def roots(self) -> Iterator[Node]:
        while True:
            event = self.loader.get_event()
            if isinstance(event, yaml.StreamEndEvent):
                return
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors.clear()
                yield self.node(self.loader.get_event(), 1)

    def node(self, event: Any, depth: int) -> Node:
        self.nodes += 1
        if self.nodes > NODE_LIMIT:
            raise self.at(event, f"more than {NODE_LIMIT:,} values; split the file")
        if depth > DEPTH_LIMIT:
            raise self.at(event, f"nested more than {DEPTH_LIMIT} levels deep; no Istio resource needs that")
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, depth)
        node = Node(event.start_mark.line + 1, event.start_mark.column + 1, "", None)
        if isinstance(event, yaml.ScalarEvent):
            node.kind = "merge" if event.value == "<<" and event.implicit[0] else "scalar"
            try:
                node.content = scalars.read(event.value, plain=event.implicit[0], tag=event.tag)
            except ValueError as error:
                raise self.at(event, str(error)) from None
        elif isinstance(event, yaml.SequenceStartEvent):
            self.fill_list(node, event, depth)
        else:
            self.fill_mapping(node, event, depth)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any, depth: int) -> Node:
        node = self.anchors.get(event.anchor)
        if node is None:
            raise self.at(event, f"the alias `*{event.anchor}` has no anchor `&{event.anchor}` that ends before it")
        self.expanded += node.size
        if self.expanded > ALIAS_LIMIT:
            raise self.at(event, f"`*{event.anchor}`: the aliases expand to more than {ALIAS_LIMIT:,} values")
        if depth + node.depth > DEPTH_LIMIT:
            raise self.at(
                event, f"`*{event.anchor}` nests more than {DEPTH_LIMIT} levels deep; no Istio resource needs that"
            )
        return node

    def fill_list(self, node: Node, event: Any, depth: int) -> None:
        self.only_tag(event, "seq")
        items = []
        while not isinstance(event := self.loader.get_event(), yaml.SequenceEndEvent):
            items.append(self.node(event, depth + 1))
        node.kind, node.content = "list", items
        node.size += sum(item.size for item in items)
        node.depth = 1 + max((item.depth for item in items), default=0)

    def fill_mapping(self, node: Node, event: Any, depth: int) -> None:
        self.only_tag(event, "map")
        pairs = []
        while not isinstance(event := self.loader.get_event(), yaml.MappingEndEvent):
            key = self.node(event, depth + 1)
            pairs.append((key, self.node(self.loader.get_event(), depth + 1)))
        node.kind, node.content = "mapping", pairs
        node.size += sum(key.size + value.size for key, value in pairs)
        node.depth = 1 + max((max(key.depth, value.depth) for key, value in pairs), default=0)

    def only_tag(self, event: Any, allowed: str) -> None:
        if event.tag not in {None, "!", scalars.TAG + allowed}:
            tag = event.tag.replace(scalars.TAG, "!!")
            raise self.at(event, f"Istio does not support the tag `{tag}`; remove it")

    def value(self, node: Node, path: Path, lines: dict[Path, int]) -> Any:
        if node.kind == "list":
            for index, item in enumerate(node.content):
                lines[(*path, index)] = item.line
            return [self.value(item, (*path, index), lines) for index, item in enumerate(node.content)]
        if node.kind == "mapping":
            result: dict[str, Any] = {}
            for key, line, value in self.pairs(node):
                lines[(*path, key)] = line
                result[key] = self.value(value, (*path, key), lines)
            return result
        return "<<" if node.kind == "merge" else node.content

    def pairs(self, node: Node) -> Iterator[tuple[str, int, Node]]:
        """Yield a mapping's keys with their lines and values. Keys from ``<<`` come first and can be overridden."""
        own: dict[str, tuple[int, Node]] = {}
        merged: dict[str, tuple[int, Node]] = {}
        for key, value in node.content:
            if key.kind == "merge":
                for source in value.content if value.kind == "list" else [value]:
                    if source.kind != "mapping":
                        raise self.refuse(key.line, key.column, "`<<` can merge only mappings")
                    for name, line, inner in self.pairs(source):
                        merged.setdefault(name, (line, inner))
                continue
            name = self.key(key)
            if name in own:
                first = own[name][0]
                raise self.refuse(
                    key.line, key.column, f"`{name}` occurs twice in one mapping: here and on line {first}; remove one"
                )
            own[name] = (key.line, value)
        for name, (line, value) in (merged | own).items():
            yield name, line, value

    def key(self, node: Node) -> str:
        if node.kind != "scalar" or node.content is None:
            what = {"list": "a list", "mapping": "a mapping (double braces?)"}.get(node.kind, "an empty value")
            raise self.refuse(node.line, node.column, f"expected a field name, found {what}")
        if isinstance(node.content, bool):
            return str(node.content).lower()
        return str(node.content)


def parse(text: str, file: str) -> list[tuple[Any, dict[Path, int], int]]:
    """Return the value of each non-empty document of `text`, its lines by path, and the line where it starts.

    Raises
    ------
    InvalidYaml
        The text is not YAML, has a duplicate key, is too large or too deep, or its aliases expand too far.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        parse_problem = Problem(file, line, "", "half of a surrogate pair, which is not a character")
        raise InvalidYaml(
            f"{file} can't be parsed as YAML.", problems=[parse_problem], next_step=f"fix line {line}"
        ) from None
    if size > SIZE_LIMIT:
        raise InvalidYaml(
            f"{file} has {size:,} bytes; the limit is {SIZE_LIMIT:,}.",
            next_step="split it into several files",
        )
    reader = _Reader(text, file, None)
    found = []
    try:
        reader.loader = LOADER(text)
        for root in reader.roots():
            if root.kind == "scalar" and root.content is None:
                continue
            lines: dict[Path, int] = {}
            found.append((reader.value(root, (), lines), lines, root.line))
    except yaml.YAMLError as error:
        line, column, message = describe_error(error, text)
        raise reader.refuse(line, column, message) from None
    finally:
        if reader.loader is not None:
            reader.loader.dispose()
    return found
