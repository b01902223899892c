"""Short names for long ids: ``order-1`` instead of ``0199d2c4-7a30-7c3e-8f4e-3f1c2b9d8e7a``.

A person can follow ``order-1`` through four databases and four topics, and what a notebook prints is the same in each
run. Names are given in the order in which ids are met, so whoever prints sorts first.
"""

from __future__ import annotations

import re
import threading
from typing import Any
from uuid import UUID

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
"""What an id names, by the column, header or JSON member that holds it."""


class Aliases:
    """Gives each id a short name, and finds the id of a name.

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
        """Return the short name of an id; a new id gets the next number of its kind."""
        text = str(identifier)
        with self._lock:
            if text not in self._names:
                self._count[kind] = self._count.get(kind, 0) + 1
                name = f"{kind}-{self._count[kind]}"
                self._names[text], self._ids[name] = name, text
            return self._names[text]

    def known(self, identifier: str) -> str:
        """Return the short name of an id that has one, else its end: for views that must not hand out numbers."""
        return self._names.get(identifier, end(identifier))

    def id(self, name: str) -> str:
        """Return the id behind a short name; anything else comes back as it is."""
        return self._ids.get(name, name)

    def tidy(self, value: Any, where: str = "", *, naming: bool = True) -> Any:
        """Put short names for the ids in a value: an id, a text, a JSON object, a list.

        Parameters
        ----------
        value : object
            What holds ids. Anything else comes back as it is.
        where : str
            The column, header or member that holds it: tells what an id names.
        naming : bool
            Whether an id without a name gets one; else its end stands for it.
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


def end(identifier: str) -> str:
    """Return the end of an id, which stands for one that has no name."""
    return f"…{identifier[-6:]}"
