"""What PostgreSQL's output plugin pgoutput says: the messages that Debezium reads, taken apart.

They come through a replication slot, or as bytes from `pg_logical_slot_peek_binary_changes`. The formats stand in
PostgreSQL's documentation, "Logical Replication Message Formats"; only what an outbox needs is read here.
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
class Message:
    """One message.

    Attributes
    ----------
    transaction : str
        Number of the transaction that it belongs to.
    name : str
        BEGIN, RELATION, INSERT, COMMIT ...
    table : str
        Which table it is about, if any.
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
    """Reads bytes from the front on."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, size: int) -> int:
        return int.from_bytes(self.some(size), "big")

    def some(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def text(self) -> str:
        end = self._data.index(b"\0", self._at)
        told = self.some(end - self._at).decode()
        self._at += 1
        return told


def read(rows: Iterable[tuple[str, bytes]]) -> list[Message]:
    """Read messages in the order in which they came.

    Parameters
    ----------
    rows : iterable of tuple
        Number of the transaction, and the bytes. A RELATION that tells nothing new is left out.

    Raises
    ------
    ValueError
        These bytes are no messages of pgoutput.
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
                messages.append(Message(transaction, name, table.name))
            elif letter == "I":
                table = tables[body.number(4)]
                messages.append(Message(transaction, name, table.name, _row(body, table)))
            else:
                messages.append(Message(transaction, name))
        except (LookupError, UnicodeDecodeError) as error:
            raise ValueError(f"This is no message of pgoutput: {bytes(data[:20])!r} ...") from error
    return messages


def _relation(body: _Bytes) -> tuple[int, _Table]:
    number = body.number(4)
    body.text()  # its schema
    name = body.text()
    body.number(1)  # replica identity
    columns = []
    for _ in range(body.number(2)):
        body.number(1)  # whether it is part of the key
        columns.append(body.text())
        body.number(8)  # its type and how that is modified
    return number, _Table(name, tuple(columns))


def _row(body: _Bytes, table: _Table) -> dict[str, str | None]:
    body.number(1)  # N, a new row
    body.number(2)  # so many columns as RELATION has told
    row: dict[str, str | None] = {}
    for column in table.columns:
        row[column] = body.some(body.number(4)).decode() if body.some(1) == b"t" else None
    return row
