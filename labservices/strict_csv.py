"""A strict reader of CSV tables that reports every invalid cell by file, line and field."""

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
class CsvProblem:
    """One problem in a file.

    `line` counts from 1; it is None for a problem of the whole file. `field` is None for a problem of the whole row.
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
    """The data can't be loaded; `problems` lists every problem found."""

    def __init__(self, problems: Iterable[CsvProblem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n  ".join([f"{count} in the data; nothing was loaded:", *map(str, self.problems)]))


class BadValue(Exception):
    """A value is not valid for its column; the argument describes the expected value."""


# A column is a function that converts the text of a cell to its value, or raises BadValue.
Column = Callable[[str], Any]
Row = TypeVar("Row")


def identifier(text: str) -> str:
    """Parse an id: lower-case words of letters and digits joined by hyphens."""
    if len(text) > MAX_ID_LENGTH or not re.fullmatch(ID_PATTERN, text):
        raise BadValue(f"lower-case letters and digits joined by single hyphens, at most {MAX_ID_LENGTH} characters")
    return text


def optional(parse: Column) -> Column:
    """Return a column that parses an empty cell as None and any other cell with `parse`."""
    return lambda text: parse(text) if text else None


def name(text: str) -> str:
    """Parse a display name."""
    if not text or len(text) > MAX_NAME_LENGTH or text != text.strip() or not text.isprintable():
        raise BadValue(f"1 to {MAX_NAME_LENGTH} printable characters without leading or trailing spaces")
    return text


def currency(text: str) -> str:
    """Parse an ISO 4217 currency code."""
    if not re.fullmatch(r"[A-Z]{3}", text):
        raise BadValue("three capital letters, such as EUR")
    return text


def integer(low: int, high: int) -> Column:
    """Return a column of whole numbers in plain digits, from `low` to `high`."""

    def parse(text: str) -> int:
        # int() alone would also accept " 7", "1_000", "٣" and "-0".
        if re.fullmatch(r"0|[1-9][0-9]{0,18}", text) and low <= int(text) <= high:
            return int(text)
        raise BadValue(f"a whole number from {low} to {high}")

    return parse


def one_of(*values: str) -> Column:
    """Return a column that accepts only these values."""

    def parse(text: str) -> str:
        if text not in values:
            raise BadValue(" or ".join(values))
        return text

    return parse


def _show(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


class Table(Generic[Row]):
    """The valid rows of one file with their line numbers, and the problems of the other rows."""

    def __init__(self, path: Path, columns: Mapping[str, Column], row_type: type[Row]) -> None:
        self.file = path.name
        self.problems: list[CsvProblem] = []
        self.rows: list[tuple[int, Row]] = []
        text = self._decode(path)
        if text is not None:
            self._parse(text, columns, row_type)
        if not self.rows and not self.problems:
            self.report(None, None, "no rows", "at least one row")

    def report(self, line: int | None, field: str | None, seen: str, expected: str) -> None:
        """Record a problem."""
        self.problems.append(CsvProblem(self.file, line, field, seen, expected))

    def _decode(self, path: Path) -> str | None:
        try:
            data = path.read_bytes()
        except OSError as error:
            self.report(None, None, error.strerror or str(error), "a readable file")
            return None
        try:
            return data.decode("utf-8-sig")  # spreadsheets often add a byte order mark
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
                # A quoted field may span lines: report the line that the row starts on.
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
        """Report each row that repeats the `field` of an earlier row."""
        first: dict[str, int] = {}
        for line, row in self.rows:
            value = getattr(row, field)
            if value in first:
                self.report(line, field, f"{value!r} is repeated", f"each {field} once (first on line {first[value]})")
            first.setdefault(value, line)

    def values(self) -> list[Row]:
        """Return the rows without their line numbers."""
        return [row for _, row in self.rows]
