"""One order in four databases, side by side: each service's rows, and the inboxes that contain its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from labkit.errors import database_errors
from labkit.sources import records as kafka_records
from labkit.waiting import wait_until
from labservices.contract import SERVICES, acts_on, events_topic
from labstack.backends.base import Endpoints
from labstack.clients import broker
from labstack.clients.databases import connect

STATUS = {
    "order": "SELECT status, failure_reason FROM orders WHERE order_id = %(order)s",
    "inventory": "SELECT status, failure_reason FROM reservations WHERE order_id = %(order)s",
    "payment": "SELECT status, failure_reason FROM payments WHERE order_id = %(order)s",
    "shipping": "SELECT status, failure_reason FROM shipments WHERE order_id = %(order)s",
}
EFFECTS = {
    "order": "SELECT '' WHERE false",  # the order service only decides; the decision is its status
    # The products of an order move together, so one of them is enough.
    "inventory": """
        SELECT effect FROM stock_movements WHERE order_id = %(order)s
        AND sku = (SELECT min(sku) FROM stock_movements WHERE order_id = %(order)s) ORDER BY at""",
    "payment": "SELECT effect FROM ledger_entries WHERE order_id = %(order)s ORDER BY at",
    "shipping": "SELECT effect FROM carrier_bookings WHERE order_id = %(order)s ORDER BY at",
}
PUBLISHED = "SELECT type FROM outbox WHERE aggregateid = %(order)s ORDER BY created_at"
OUTBOX = "SELECT id::text, type FROM outbox WHERE aggregateid = ANY(%s::uuid[])"
INBOX = "SELECT event_id::text FROM inbox WHERE event_id = ANY(%s::uuid[])"


def order_by_service(endpoints: Endpoints, order_id: str) -> pd.DataFrame:
    """Return each service's view of an order: its row's status and reason, its effects, and the events it published."""
    rows, order = [], {"order": order_id}
    for service in STATUS:
        with database_errors(service), connect(endpoints.readable[service], timeout=5) as db:
            status, reason = db.execute(STATUS[service].encode(), order).fetchone() or ("-", None)
            effects = db.execute(EFFECTS[service].encode(), order).fetchall()
            published = db.execute(PUBLISHED, order).fetchall()
        rows.append((service, status, reason or "-", _joined(effects), _joined(published)))
    return pd.DataFrame(rows, columns=["service", "status", "reason", "effects", "published"])


def _joined(rows: list[Any]) -> str:
    return ", ".join(row[0] for row in rows) or "-"


def event_deliveries(endpoints: Endpoints, order_ids: Collection[str]) -> pd.DataFrame:
    """Return for each event of some orders its number of records, and how often each inbox contains it.

    A dash marks a service that does not act on an event and therefore does not record it in its inbox.
    """
    topics = [events_topic(service) for service in endpoints.services]
    found = [r for r in broker.read_all(endpoints.kafka, topics) if kafka_records.wanted(r, set(order_ids))]
    copies = Counter(record.headers.get("ce_id") or "" for record in found)
    inboxes = {service: _inbox(service, url, copies) for service, url in endpoints.readable.items()}
    rows = {}
    for record in kafka_records.in_order_of_cause(found):
        event = record.headers.get("ce_id") or ""
        counts = [inboxes[s][event] if record.type in acts_on(s) else "-" for s in inboxes]
        rows[event] = (record.type, copies[event], *counts)
    return pd.DataFrame(list(rows.values()), columns=["type", "records", *inboxes])


def wait_for_rest(endpoints: Endpoints, order_ids: Collection[str], without: str | None, timeout: float) -> None:
    """Wait until every service that acts on the events of some orders has handled them all.

    A service commits the events that result from an event together with its inbox row. So when the inboxes hold every
    event that was in the outboxes before, and the outboxes hold no new event afterwards, no event is in flight.
    """
    consumers = {service: acts_on(service) for service in SERVICES if service != without}

    def is_at_rest() -> bool:
        events = _outboxes(endpoints, order_ids)
        inboxes = {service: _inbox(service, endpoints.readable[service], events) for service in consumers}
        all_handled = all(
            inboxes[service][event]
            for event, kind in events.items()
            for service in consumers
            if kind in consumers[service]
        )
        return all_handled and events == _outboxes(endpoints, order_ids)

    wait_until(is_at_rest, timeout, what="every service to handle all events of these orders")


def _outboxes(endpoints: Endpoints, order_ids: Collection[str]) -> dict[str, str]:
    events: dict[str, str] = {}
    for service, url in endpoints.readable.items():
        with database_errors(service), connect(url, timeout=5) as db:
            events |= dict(db.execute(OUTBOX, [list(order_ids)]).fetchall())
    return events


def _inbox(service: str, url: str, events: Mapping[str, object]) -> Counter[str]:
    with database_errors(service), connect(url, timeout=5) as db:
        return Counter(row[0] for row in db.execute(INBOX, [list(events)]))
