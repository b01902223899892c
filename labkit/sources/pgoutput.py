"""A parser for messages of PostgreSQL's output plugin pgoutput, which Debezium reads.

The messages arrive through a replication slot, or as bytes from `pg_logical_slot_peek_binary_changes`. Source:
PostgreSQL's documentation, "Logical Replication Message Formats". Only what an outbox needs is parsed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

NAMES = {
    "B": "BEGIN",
    "C": "COMMIT",
    "I": "INSERT",
    "R": "RELATION",
    "U": "UPDATE",
    "D": "DELETE",
    "T": "TRUNCATE",
    "M": "MESSAGE",
    "O": "ORIGIN",
    "Y": "TYPE",
}


@dataclass(frozen=True)
class PgoutputMessage:
    """One message.

    Attributes
    ----------
    transaction : str
        Id of the message's transaction.
    name : str
        BEGIN, RELATION, INSERT, COMMIT ...
    table : str
        The table that the message concerns, if any.
    row : dict
        The new row of an INSERT, as text; a NULL is None.
    """

    transaction: str
    name: str
    table: str = ""
    row: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Table:
    name: str
    columns: tuple[str, ...]


class _Bytes:
    """Reads bytes from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def text(self) -> str:
        end = self._data.index(b"\0", self._at)
        text = self.take(end - self._at).decode()
        self._at += 1
        return text


def read(rows: Iterable[tuple[str, bytes]]) -> list[PgoutputMessage]:
    """Parse messages in the order in which they arrived.

    Parameters
    ----------
    rows : iterable of tuple
        Transaction id and bytes. A RELATION that repeats a known one is left out.

    Raises
    ------
    ValueError
        The bytes are not pgoutput messages.
    """
    tables: dict[int, _Table] = {}
    messages = []
    for transaction, data in rows:
        try:
            letter, body = chr(data[0]), _Bytes(data[1:])
            name = NAMES[letter]
            if letter == "R":
                number, table = _relation(body)
                if tables.get(number) == table:
                    continue
                tables[number] = table
                messages.append(PgoutputMessage(transaction, name, table.name))
            elif letter == "I":
                table = tables[body.number(4)]
                messages.append(PgoutputMessage(transaction, name, table.name, _row(body, table)))
            else:
                messages.append(PgoutputMessage(transaction, name))
        except (LookupError, UnicodeDecodeError) as error:
            raise ValueError(f"This is no message of pgoutput: {bytes(data[:20])!r} ...") from error
    return messages


def _relation(body: _Bytes) -> tuple[int, _Table]:
    number = body.number(4)
    body.text()  # schema
    name = body.text()
    body.number(1)  # replica identity
    columns = []
    for _ in range(body.number(2)):
        body.number(1)  # flags: whether the column is part of the key
        columns.append(body.text())
        body.number(8)  # type and type modifier
    return number, _Table(name, tuple(columns))


def _row(body: _Bytes, table: _Table) -> dict[str, str | None]:
    body.number(1)  # N, a new row
    body.number(2)  # number of columns, known from RELATION
    row: dict[str, str | None] = {}
    for column in table.columns:
        row[column] = body.take(body.number(4)).decode() if body.take(1) == b"t" else None
    return row
