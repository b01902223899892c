"""Looking at what logical decoding gives, and at what Connect has noted of it: what `look` has for notebook 11."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pandas as pd

from labkit import pgoutput
from labkit.aliases import Aliases
from labstack import Lab, broker
from labstack.relay import connector_name

OFFSETS = "connect-offsets"
"""The topic in which Connect notes how far each of its source connectors is (offset.storage.topic)."""


class Decoding:
    """A part of `Look`: below the outbox."""

    _lab: Lab
    aliases: Aliases

    def messages(self, rows: Iterable[tuple[Any, ...]], *columns: str) -> pd.DataFrame:
        """Return the messages of PostgreSQL's plugin pgoutput as a table.

        Parameters
        ----------
        rows : iterable of tuple
            ``xid`` and ``data``, as ``pg_logical_slot_peek_binary_changes`` gives them.
        *columns : str
            Columns of an inserted row that are shown.

        Examples
        --------
        >>> look.messages(db.execute("SELECT xid, data FROM pg_logical_slot_peek_binary_changes(...)"), "type")
        """
        shown = []
        for message in pgoutput.read((str(xid), bytes(data)) for xid, data in rows):
            values = {c: self.aliases.tidy(message.row.get(c) or "", c) for c in columns}
            transaction = self.aliases.name(f"transaction {message.transaction}", "tx")
            shown.append({"transaction": transaction, "message": message.name, "table": message.table, **values})
        return pd.DataFrame(shown, columns=["transaction", "message", "table", *columns])

    def noted(self, service: str) -> dict[str, Any]:
        """Return what Connect noted last, in its topic, of how far a service's connector is; {} if it has nothing, or
        was told to forget it. This works while Connect is down, too.
        """
        mine = json.dumps([connector_name(service), {"server": service}], separators=(",", ":"))
        notes = [record for record in broker.read_all(self._lab.endpoints.kafka, [OFFSETS]) if record.key == mine]
        latest = max(notes, key=lambda record: record.offset, default=None)
        noted: dict[str, Any] = json.loads(latest.value) if latest and latest.value else {}
        return noted
