"""A strict reader of CSV tables: every bad cell is named by file, line and field."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

ID_PATTERN = r"[a-z0-9]+(-[a-z0-9]+)*"
MAX_ID_LENGTH = 64
MAX_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file.

    `line` counts from 1; it is None where the whole file is meant, `field` where the whole row is.
    """

    file: str
    line: int | None
    field: str | None
    seen: str
    expected: str

    def __str__(self) -> str:
        where = ", ".join(
            [self.file, *([f"line {self.line}"] if self.line else []), *([self.field] if self.field else [])]
        )
        return f"{where}: {self.seen}; expected {self.expected}"


class DatasetError(ValueError):
    """Raised when data can't be loaded; `problems` holds every one that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n  ".join([f"{count} in the data, nothing was loaded:", *map(str, self.problems)]))


class BadValue(Exception):
    """A value is not what its column holds; the argument says what was expected."""


# A column is a function from the text of a cell to its value, or BadValue.
Column = Callable[[str], Any]
Row = TypeVar("Row")


def identifier(text: str) -> str:
    """An id: lower-case words of letters and digits joined by hyphens."""
    if len(text) > MAX_ID_LENGTH or not re.fullmatch(ID_PATTERN, text):
        raise BadValue(f"lower-case letters and digits joined by single hyphens, at most {MAX_ID_LENGTH}")
    return text


def optional(parse: Column) -> Column:
    """What `parse` takes, or None for an empty cell."""
    return lambda text: parse(text) if text else None


def name(text: str) -> str:
    """A name that people read."""
    if not text or len(text) > MAX_NAME_LENGTH or text != text.strip() or not text.isprintable():
        raise BadValue(f"1 to {MAX_NAME_LENGTH} printable characters without spaces around them")
    return text


def currency(text: str) -> str:
    """An ISO 4217 code."""
    if not re.fullmatch(r"[A-Z]{3}", text):
        raise BadValue("three capital letters, like EUR")
    return text


def integer(low: int, high: int) -> Column:
    """A whole number in plain digits, from `low` to `high`."""

    def parse(text: str) -> int:
        # int() alone would also take " 7", "1_000", "٣" and "-0".
        if re.fullmatch(r"0|[1-9][0-9]{0,18}", text) and low <= int(text) <= high:
            return int(text)
        raise BadValue(f"a whole number from {low} to {high}")

    return parse


def one_of(*values: str) -> Column:
    """One of a few words."""

    def parse(text: str) -> str:
        if text not in values:
            raise BadValue(" or ".join(values))
        return text

    return parse


def _show(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


class Table(Generic[Row]):
    """The rows of one file that could be read, each with its line, and the problems of the others."""

    def __init__(self, path: Path, columns: Mapping[str, Column], row_type: type[Row]) -> None:
        self.file = path.name
        self.problems: list[Problem] = []
        self.rows: list[tuple[int, Row]] = []
        text = self._decode(path)
        if text is not None:
            self._parse(text, columns, row_type)
        if not self.rows and not self.problems:
            self.report(None, None, "no rows", "at least one")

    def report(self, line: int | None, field: str | None, seen: str, expected: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(self.file, line, field, seen, expected))

    def _decode(self, path: Path) -> str | None:
        try:
            data = path.read_bytes()
        except OSError as error:
            self.report(None, None, error.strerror or str(error), "a file that can be read")
            return None
        try:
            return data.decode("utf-8-sig")  # spreadsheets like to put a byte order mark in front
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            self.report(line, None, f"byte 0x{data[error.start]:02x}", "UTF-8 text")
            return None

    def _parse(self, text: str, columns: Mapping[str, Column], row_type: type[Row]) -> None:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        line = 1
        try:
            header = next(reader, [])
            if header != list(columns):
                self.report(1, None, f"columns {_show(','.join(header))}", ",".join(columns))
                return
            line = reader.line_num + 1
            for cells in reader:
                self._parse_row(line, cells, columns, row_type)
                # A quoted field may span lines: name the one that the row starts on.
                line = reader.line_num + 1
        except csv.Error as error:
            self.report(line, None, str(error), "CSV with balanced quotes")

    def _parse_row(self, line: int, cells: list[str], columns: Mapping[str, Column], row_type: type[Row]) -> None:
        if len(cells) != len(columns):
            self.report(line, None, f"{len(cells)} fields", f"{len(columns)}: {','.join(columns)}")
            return
        values, good = [], True
        for (field, parse), cell in zip(columns.items(), cells, strict=True):
            try:
                values.append(parse(cell))
            except BadValue as error:
                self.report(line, field, _show(cell), str(error))
                good = False
        if good:
            self.rows.append((line, row_type(*values)))

    def unique(self, field: str) -> None:
        """Report each row whose `field` an earlier row has."""
        first: dict[str, int] = {}
        for line, row in self.rows:
            value = getattr(row, field)
            if value in first:
                self.report(line, field, f"{value!r} again", f"each {field} once (first on line {first[value]})")
            first.setdefault(value, line)

    def values(self) -> list[Row]:
        """Return the rows without their lines."""
        return [row for _, row in self.rows]
