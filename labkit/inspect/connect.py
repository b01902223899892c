"""The relay between the outbox tables and the topics: Debezium's connectors in Kafka Connect."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pandas as pd

from labkit.errors import KitError, ShopUnavailable
from labkit.inspect.databases import Databases
from labkit.inspect.scope import Orders, Scope
from labkit.inspect.topics import Topics
from labstack.arguments import checked_class
from labstack.clients import broker, http
from labstack.clients.relay import connector_name
from labstack.errors import one_of

OFFSETS = "connect-offsets"
"""The topic in which Connect stores the position of each source connector (offset.storage.topic)."""

ROW_TIMES = """
    SELECT id::text, extract(epoch FROM created_at)::float8 FROM outbox WHERE aggregateid::text = ANY(%s)
"""


@checked_class
class Connectors:
    """Shows the connectors, and how far they have relayed the outbox rows.

    Parameters
    ----------
    scope : Scope
        The lab.
    db : Databases
        The databases.
    kafka : Topics
        The topics.
    """

    def __init__(self, scope: Scope, db: Databases, kafka: Topics) -> None:
        self._scope = scope
        self._db = db
        self._kafka = kafka

    def config(self, service: str) -> dict[str, str]:
        """Return the current configuration of a service's connector (without the password)."""
        url = f"{self._scope.endpoints.connect}/connectors/{connector_name(self._known(service))}/config"
        try:
            answer = http.get(url, timeout=10)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise ShopUnavailable(
                f"Connect doesn't answer ({type(error).__name__}).",
                next_step="`lab` shows its state, `lab.start('connect')` starts it",
            ) from None
        return {name: value for name, value in sorted(answer.json().items()) if "password" not in name}

    def stored_offset(self, service: str) -> dict[str, Any]:
        """Return the position that Connect stored last, in its topic, for a service's connector.

        Return {} if Connect stored none or the position was deleted. This also works while Connect is down.
        """
        key = json.dumps([connector_name(self._known(service)), {"server": service}], separators=(",", ":"))
        records = broker.read_all(self._scope.endpoints.kafka, [OFFSETS])
        latest = max((record for record in records if record.key == key), key=lambda r: r.offset, default=None)
        offset: dict[str, Any] = json.loads(latest.value) if latest and latest.value else {}
        return offset

    def _known(self, service: str) -> str:
        known = [*self._scope.endpoints.services, *self._scope.lab.extensions.names]
        if service not in known:
            raise KitError(f"Unknown service {service!r}.", next_step=one_of(service, known))
        return service

    def relayed(self, orders: Orders) -> pd.DataFrame:
        """Return for each service the number of these orders' outbox rows, records and rows still waiting."""
        ids = list(self._scope.order_ids(orders))
        seen = {view.record.headers.get("ce_id") for view in self._kafka.records(ids)}
        rows = []
        for service in self._scope.endpoints.services:
            with self._db.connect(service) as db:
                found = db.execute("SELECT id::text FROM outbox WHERE aggregateid::text = ANY(%s)", [ids])
                events = {row[0] for row in found}
            rows.append((service, len(events), len(events & seen), len(events - seen)))
        return pd.DataFrame(rows, columns=["service", "outbox rows", "records", "waiting"])

    def waits(self, orders: Orders) -> pd.DataFrame:
        """Return the time of each outbox row of these orders, and of its record: the data of `waits_chart`."""
        ids = list(self._scope.order_ids(orders))
        came = {view.record.headers.get("ce_id"): view.record.time / 1000 for view in self._kafka.records(ids)}
        rows = []
        for service in self._scope.endpoints.services:
            with self._db.connect(service) as db:
                found = db.execute(ROW_TIMES, [ids]).fetchall()
            rows += [(service, made, came.get(event_id)) for event_id, made in found]
        return pd.DataFrame(sorted(rows, key=lambda row: row[1]), columns=["service", "row", "record"])
