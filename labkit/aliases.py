"""Short names for long ids: ``order-1`` instead of ``0199d2c4-7a30-7c3e-8f4e-3f1c2b9d8e7a``.

A reader can follow ``order-1`` through four databases and four topics, and a notebook prints the same text in each run.
Names are assigned in the order in which the ids appear, so code that prints ids sorts them first.
"""

from __future__ import annotations

import re
import threading
from typing import Any
from uuid import UUID

from labkit.errors import KitError
from labstack.arguments import checked_class

UUID_TEXT = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

KINDS = {
    "order_id": "order",
    "aggregateid": "order",
    "key": "order",
    "order": "order",
    "id": "event",
    "event": "event",
    "event_id": "event",
    "ce_id": "event",
    "cause": "event",
    "causation_id": "event",
    "reservation_id": "reservation",
    "payment_id": "payment",
    "shipment_id": "shipment",
    "entry_id": "entry",
    "movement_id": "movement",
}
"""The kind of an id, by the column, header or JSON member that holds it."""


@checked_class
class Aliases:
    """Assigns a short name to each id, and finds the id of a name.

    Examples
    --------
    >>> aliases = Aliases()
    >>> aliases.name("0199d2c4-7a30-7c3e-8f4e-3f1c2b9d8e7a", "order")
    'order-1'
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._count: dict[str, int] = {}
        self._lock = threading.Lock()

    def name(self, identifier: UUID | str, kind: str = "id") -> str:
        """Return the short name of an id. A new id gets the next number of its kind."""
        text = str(identifier)
        with self._lock:
            if text not in self._names:
                self._count[kind] = self._count.get(kind, 0) + 1
                name = f"{kind}-{self._count[kind]}"
                self._names[text], self._ids[name] = name, text
            return self._names[text]

    def known(self, identifier: str) -> str:
        """Return the short name of an id that has one, else the id's end: for views that must not assign names."""
        return self._names.get(identifier, end(identifier))

    def id(self, name: str) -> str:
        """Return the id of a short name; return any other text unchanged."""
        return self._ids.get(name, name)

    def tidy(self, value: Any, where: str = "", *, naming: bool = True) -> Any:
        """Replace the ids in a value with short names: in an id, a text, a JSON object or a list.

        Parameters
        ----------
        value : object
            A value that may contain ids. Other types are returned unchanged.
        where : str
            The column, header or member that holds the value; it determines the kind of an id.
        naming : bool
            Whether an id without a name gets one; otherwise its end is shown.
        """
        kind = KINDS.get(where, "id")

        def short(identifier: UUID | str, kind: str) -> str:
            return self.name(identifier, kind) if naming else self.known(str(identifier))

        if isinstance(value, UUID):
            return short(value, kind)
        if isinstance(value, dict):
            return {key: self.tidy(member, key, naming=naming) for key, member in value.items()}
        if isinstance(value, list | tuple):
            return [self.tidy(member, where, naming=naming) for member in value]
        if not isinstance(value, str):
            return value
        if match := TRACEPARENT.fullmatch(value):
            trace, span, flags = match.groups()
            return f"00-{short(trace, 'trace')}-{short(span, 'span')}-{flags}"
        return UUID_TEXT.sub(lambda found: short(found.group(), kind if kind != "id" else "order"), value)


def order_id(aliases: Aliases, text: str) -> str:
    """Return the id of an order, given its id or its short name.

    Raises
    ------
    KitError
        The text is neither.
    """
    identifier = aliases.id(text)
    if UUID_TEXT.fullmatch(identifier):
        return identifier
    raise KitError(
        f"Unknown order {text[:60]!r}.",
        next_step="pass an order, its id, or a short name that this kernel has shown; `list(shop.orders())` lists all",
    )


def end(identifier: str) -> str:
    """Return the end of an id, which represents an id without a name."""
    return f"…{identifier[-6:]}"
