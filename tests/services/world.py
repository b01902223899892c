"""All four services with their real databases, and the test in the place of the relay and the broker."""

import dataclasses
import itertools
import json
import random
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from fastapi import FastAPI
from sqlalchemy import Row, select, text

from labservices import inventory, order, payment, shipping
from labservices.settings import Settings
from labservices.shared import teaching
from labservices.shared.events import Event, Line, OrderCreated
from labservices.shared.handling import Outcome
from labservices.shared.ids import uuid7
from labservices.shared.record import Record
from labservices.shared.runtime import Runtime
from labservices.shared.schema import make_schema
from labservices.shared.web import make_app
from tests.services.http import Served

SERVICES = (order.service, inventory.service, payment.service, shipping.service)
NO_BROKER = "127.0.0.1:1"
_OFFSETS = itertools.count()  # no two records have the same place

DATASETS = {
    "products.csv": "sku,name,unit_price_cents,currency,on_hand\n"
    "mug,A mug,1250,EUR,100\npot,A pot,4000,EUR,10\nrare,A rare cup,99900,EUR,1\ngone,A sold-out cup,500,EUR,0\n",
    "customers.csv": "customer_id,name,balance_cents,currency\nada,Ada,1000000,EUR\npip,Pip,1000,EUR\n",
    "destinations.csv": "destination,name,carrier\nberlin,Berlin,heron-post\nutopia,Utopia,\n",
}


@asynccontextmanager
async def _nothing_to_start(app: FastAPI) -> AsyncIterator[None]:
    yield


class Party:
    """One service: its parts, a client of its HTTP API, and its rows."""

    def __init__(self, service: Any, url: str, datasets: Path, **more: Any) -> None:
        settings = Settings(
            database_url=url, kafka_bootstrap_servers=NO_BROKER, datasets_dir=datasets, http_port=1, **more
        )
        self.service = service
        self.datasets = datasets
        self.runtime = Runtime(service, settings, teaching.parts_for(service, settings))
        make_schema(self.runtime.database.engine, service, datasets)
        self.runtime.database.schema_made.set()
        app = make_app(service, settings, self.runtime.database, self.runtime.consumer, _nothing_to_start)
        self.served = Served(app)
        self.http = self.served.client

    def reset(self) -> None:
        """Bring the data back to the beginning."""
        with self.runtime.database.engine.begin() as connection:
            for table in self.service.tables.tables:  # TRUNCATE takes six times as long for so few rows
                connection.execute(text(f"DELETE FROM {table}"))
            self.service.load_opening_data(connection, self.datasets)

    def rows(self, table: str, **equal: Any) -> list[Row[Any]]:
        """Read the rows of a table, in the order of its primary key."""
        it = self.service.tables.tables[table]
        query = select(it).filter_by(**equal).order_by(*it.primary_key.columns)
        with self.runtime.database.engine.connect() as connection:
            return list(connection.execute(query))

    def errors(self) -> list[str]:
        """List what is wrong with the parked records."""
        return [row.error for row in self.rows("parked_records")]

    def said(self, order_id: UUID | None = None) -> list[str]:
        """List the types of the events in the outbox."""
        return [row.type for row in self.rows("outbox") if order_id in (None, row.aggregateid)]

    def take(self, event: Event, event_id: UUID | None = None, traceparent: str | None = None) -> Outcome:
        """Hand the service an event, as its consumer would."""
        return self.runtime.handling.handle(record_of(event, event_id, traceparent))


class World:
    """The four services."""

    def __init__(self, urls: dict[str, str], datasets: Path) -> None:
        self.parties = {service.name: Party(service, urls[service.name], datasets) for service in SERVICES}
        self.order = self.parties["order"]
        self.inventory = self.parties["inventory"]
        self.payment = self.parties["payment"]
        self.shipping = self.parties["shipping"]

    def reset(self) -> None:
        """Bring all data back to the beginning."""
        for party in self.parties.values():
            party.reset()

    def close(self) -> None:
        """Close all connections."""
        for party in self.parties.values():
            party.served.close()
            party.runtime.database.engine.dispose()

    def place(self, customer_id: str = "ada", destination: str = "berlin", **quantities: int) -> UUID:
        """Order something over HTTP; answer the order's id."""
        items = [{"sku": sku, "quantity": number} for sku, number in (quantities or {"mug": 2}).items()]
        body = {"customer_id": customer_id, "destination": destination, "items": items}
        answer = self.order.http.post("/orders", json=body)
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["order_id"])

    def status(self, order_id: UUID) -> str:
        """Read an order's status over HTTP."""
        return str(self.order.http.get(f"/orders/{order_id}").json()["status"])

    def history(self, order_id: UUID) -> list[str]:
        """Read over HTTP which statuses an order has had."""
        items = self.order.http.get(f"/orders/{order_id}/history").json()["items"]
        return [item["status"] for item in items]

    def relay(self, luck: random.Random | None = None) -> Generator[tuple[str, str, Outcome], None, None]:
        """Bring every event to every service that reads its topic, until nobody says anything new.

        Each service reads each topic in its order, and the topics in any order: which one is next is a matter of luck.
        """
        read: dict[tuple[str, str], int] = {}
        while True:
            waiting = []
            for writer in self.parties.values():
                topic = f"{writer.service.name}.events"
                said = writer.rows("outbox")
                for reader in self.parties.values():
                    at = (reader.service.name, topic)
                    if topic in reader.service.topics and read.get(at, 0) < len(said):
                        waiting.append((reader, at, said[read.get(at, 0)]))
            if not waiting:
                return
            reader, at, row = luck.choice(waiting) if luck else waiting[0]
            read[at] = read.get(at, 0) + 1
            yield reader.service.name, row.type, reader.runtime.handling.handle(record_of_row(row))

    def settle(self, luck: random.Random | None = None) -> None:
        """Bring every event everywhere."""
        for _ in self.relay(luck):
            pass

    def balance(self, customer_id: str = "ada") -> int:
        """Read a balance over HTTP."""
        return int(self.payment.http.get(f"/payments/accounts/{customer_id}").json()["balance_cents"])

    def stock(self, sku: str = "mug") -> tuple[int, int, int]:
        """Read over HTTP how many of a product are on hand, reserved and shipped."""
        product = self.inventory.http.get(f"/inventory/products/{sku}").json()
        return product["on_hand"], product["reserved"], product["shipped"]


def a_new_order(**other: Any) -> OrderCreated:
    """Make the first event of an order: two mugs for Ada in Berlin, unless told otherwise."""
    values: dict[str, Any] = {
        "order_id": uuid4(),
        "customer_id": "ada",
        "destination": "berlin",
        "items": [Line(sku="mug", quantity=2, unit_price_cents=1250)],
        "total_cents": 2500,
        "currency": "EUR",
    }
    return OrderCreated(**values | other)


def record_of(event: Event, event_id: UUID | None = None, traceparent: str | None = None) -> Record:
    """Make the record that Debezium would make of an event."""
    headers = {
        "ce_id": str(event_id or uuid7()),
        "ce_type": event.type(),
        "ce_dataschema": event.dataschema(),
        **({"traceparent": traceparent} if traceparent else {}),
    }
    return Record(event.topic, 0, next(_OFFSETS), str(event.order_id), event.model_dump_json().encode(), headers)


def record_of_row(row: Row[Any]) -> Record:
    """Make the record that Debezium would make of an outbox row."""
    headers = {"ce_id": str(row.id), "ce_type": row.type, "ce_dataschema": row.dataschema, "ce_source": row.source}
    if row.traceparent:
        headers["traceparent"] = row.traceparent
    value = json.dumps(row.payload).encode()
    return Record(f"{row.aggregatetype}.events", 0, next(_OFFSETS), str(row.aggregateid), value, headers)


def changed(record: Record, **other: Any) -> Record:
    """Copy a record with some parts changed."""
    return dataclasses.replace(record, **other)
