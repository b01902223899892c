"""Types of fields and their parsing, which `supported` uses to describe Istio's kinds.

Parsing follows istiod, which reads YAML as protobuf's JSON: null means absent, integers may be strings, an enumeration
is a name or a number, a duration has Go's notation, and only one field of a "oneof" may be present.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from labstack.istio import durations
from labstack.istio.documents import Document
from labstack.istio.envoy_api import protobuf
from labstack.istio.errors import Problem
from labstack.istio.model.configs import Path
from labstack.istio.words import did_you_mean, seen


@dataclass
class Reader:
    """Collects the problems of one document while it is parsed.

    Attributes
    ----------
    invalid : list of Problem
        Values that istiod can't read either.
    unsupported : list of Problem
        Fields that the translator doesn't support.
    """

    document: Document
    invalid: list[Problem] = field(default_factory=list)
    unsupported: list[Problem] = field(default_factory=list)

    def refuse(self, path: Path, expected: str, value: Any) -> None:
        """Record a value that can't be parsed."""
        self.invalid.append(self.document.problem(path, f"expected {expected}, found {seen(value)}"))


class Shape(Protocol):
    """The type of a field."""

    def read(self, value: Any, path: Path, reader: Reader) -> Any:
        """Return the parsed value, or None if it can't be parsed. The reader records the problem."""


@dataclass(frozen=True)
class Text:
    """A string."""

    def read(self, value: Any, path: Path, reader: Reader) -> str | None:
        if isinstance(value, str):
            return value
        reader.refuse(path, "a string (put it in quotes)", value)
        return None


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def read(self, value: Any, path: Path, reader: Reader) -> bool | None:
        if isinstance(value, bool):
            return value
        reader.refuse(path, "true or false", value)
        return None


@dataclass(frozen=True)
class Integer:
    """An integer within the bounds of its protobuf type."""

    low: int
    high: int

    def read(self, value: Any, path: Path, reader: Reader) -> int | None:
        number = value
        if isinstance(value, str) and value.removeprefix("-").isdecimal() and len(value) < 30:
            number = int(value)
        if isinstance(value, float) and value.is_integer():
            number = int(value)
        if isinstance(number, int) and not isinstance(number, bool) and self.low <= number <= self.high:
            return number
        reader.refuse(path, f"an integer from {self.low} to {self.high}", value)
        return None


INT32 = Integer(-(2**31), 2**31 - 1)
UINT32 = Integer(0, 2**32 - 1)
UINT64 = Integer(0, 2**64 - 1)


@dataclass(frozen=True)
class Float:
    """A number."""

    def read(self, value: Any, path: Path, reader: Reader) -> float | None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                pass
        reader.refuse(path, "a number", value)
        return None


@dataclass(frozen=True)
class Duration:
    """A duration, such as ``1.5s``."""

    def read(self, value: Any, path: Path, reader: Reader) -> protobuf.Duration | None:
        length = durations.nanoseconds(value) if isinstance(value, str) else None
        if length is None:
            reader.refuse(path, f"a duration such as {durations.EXAMPLES}", value)
            return None
        result = protobuf.Duration()
        result.FromNanoseconds(length)
        return result


@dataclass(frozen=True)
class Bytes:
    """Bytes, written in base64."""

    def read(self, value: Any, path: Path, reader: Reader) -> bytes | None:
        try:
            return base64.b64decode(value, validate=True)
        except (TypeError, ValueError, binascii.Error):
            reader.refuse(path, "bytes in base64", value)
            return None


@dataclass(frozen=True)
class Choice:
    """One of several names. As in protobuf, their numbers, counted from 0, are also accepted.

    `unsupported` are names that Istio has and the translator doesn't support.
    """

    names: tuple[str, ...]
    unsupported: tuple[str, ...] = ()

    def read(self, value: Any, path: Path, reader: Reader) -> str | None:
        name = value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(self.names):
            name = self.names[value]
        if name in self.unsupported:
            reader.unsupported.append(reader.document.problem(path, f"the translator does not support `{name}`"))
            return None
        if name in self.names:
            return str(name)
        reader.refuse(path, "one of " + ", ".join(self.names), value)
        return None


@dataclass(frozen=True)
class Protocols:
    """The name of a protocol, case-insensitive.

    `done` and `unsupported` are Istio's protocols in lower case that the translator supports or doesn't support.
    """

    done: frozenset[str]
    unsupported: frozenset[str]

    def read(self, value: Any, path: Path, reader: Reader) -> str | None:
        if isinstance(value, str) and value.lower() in self.unsupported:
            reader.unsupported.append(reader.document.problem(path, f"the translator does not support `{value}` here"))
        elif isinstance(value, str) and value.lower() in self.done:
            return value
        else:
            reader.refuse(path, "one of " + ", ".join(sorted(self.done)).upper(), value)
        return None


@dataclass(frozen=True)
class ListOf:
    """A list."""

    item: Shape

    def read(self, value: Any, path: Path, reader: Reader) -> list[Any] | None:
        if not isinstance(value, list):
            reader.refuse(path, "a list", value)
            return None
        return [self.item.read(item, (*path, index), reader) for index, item in enumerate(value)]


@dataclass(frozen=True)
class MapOf:
    """A mapping from names to values. The translator doesn't support names that start with `unsupported`."""

    item: Shape
    unsupported: str | None = None

    def read(self, value: Any, path: Path, reader: Reader) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            reader.refuse(path, "a mapping", value)
            return None
        for key in value:
            if self.unsupported is not None and key.lower().startswith(self.unsupported):
                reader.unsupported.append(
                    reader.document.problem((*path, key), f"the translator does not support `{self.unsupported}`")
                )
        # A name without a value gets the empty value of its type.
        empty: Any = {} if isinstance(self.item, Message) else "" if isinstance(self.item, Text) else 0
        return {
            key: empty if item is None else self.item.read(item, (*path, key), reader) for key, item in value.items()
        }


LABELS_SHAPE = MapOf(Text())


@dataclass(frozen=True)
class NotSupported:
    """A field that Istio has and the translator doesn't support."""

    instead: str = ""

    def read(self, value: Any, path: Path, reader: Reader) -> None:
        hint = f"; {self.instead}" if self.instead else ""
        reader.unsupported.append(reader.document.problem(path, f"the translator does not support `{path[-1]}`{hint}"))


@dataclass(frozen=True)
class Message:
    """An object with fields.

    Parameters
    ----------
    fields : mapping
        The shape of each field.
    one_of : tuple of tuples, optional
        Groups of fields of which at most one may be present.
    """

    fields: Mapping[str, Shape]
    one_of: tuple[tuple[str, ...], ...] = ()

    def read(self, value: Any, path: Path, reader: Reader) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            reader.refuse(path, "a mapping of fields", value)
            return None
        result = {}
        for name, item in value.items():
            if name not in self.fields:
                hint = did_you_mean(name, self.fields)
                reader.unsupported.append(
                    reader.document.problem(
                        (*path, name), f"the translator does not support the field `{name}` here{hint}"
                    )
                )
            elif item is not None:
                result[name] = self.fields[name].read(item, (*path, name), reader)
        for group in self.one_of:
            there = [name for name in group if name in result]
            if len(there) > 1:
                reader.invalid.append(
                    reader.document.problem(
                        (*path, there[1]), f"both `{there[0]}` and `{there[1]}` are set; only one of them is allowed"
                    )
                )
        return result
