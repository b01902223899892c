"""Logical decoding, and the positions that Connect stores for its connectors: the part of `look` for notebook 11."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pandas as pd

from labkit.aliases import Aliases
from labkit.inspect import pgoutput
from labstack import Lab
from labstack.clients import broker
from labstack.clients.relay import connector_name

OFFSETS = "connect-offsets"
"""The topic in which Connect stores the position of each source connector (offset.storage.topic)."""


class Decoding:
    """The part of `Look` for the layers below the outbox."""

    _lab: Lab
    aliases: Aliases

    def messages(self, rows: Iterable[tuple[Any, ...]], *columns: str) -> pd.DataFrame:
        """Return the messages of PostgreSQL's plugin pgoutput as a table.

        Parameters
        ----------
        rows : iterable of tuple
            ``xid`` and ``data``, as ``pg_logical_slot_peek_binary_changes`` returns them.
        *columns : str
            Columns of an inserted row to show.

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

    def stored_offset(self, service: str) -> dict[str, Any]:
        """Return the position that Connect stored last, in its topic, for a service's connector.

        Return {} if Connect stored none or the position was deleted. This also works while Connect is down.
        """
        key = json.dumps([connector_name(service), {"server": service}], separators=(",", ":"))
        stored = [record for record in broker.read_all(self._lab.endpoints.kafka, [OFFSETS]) if record.key == key]
        latest = max(stored, key=lambda record: record.offset, default=None)
        offset: dict[str, Any] = json.loads(latest.value) if latest and latest.value else {}
        return offset
