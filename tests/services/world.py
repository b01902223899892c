"""All four services with their real databases, with the test as relay and broker."""

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
from labservices.events import Event, Line, OrderCreated
from labservices.faults import switches
from labservices.http.web import make_app
from labservices.ids import uuid7
from labservices.messaging.handling import Outcome
from labservices.record import Record
from labservices.runtime import Runtime
from labservices.settings import Settings
from labservices.storage.schema import make_schema
from tests.services.http import AppServer

SERVICES = (order.service, inventory.service, payment.service, shipping.service)
NO_BROKER = "127.0.0.1:1"
_OFFSETS = itertools.count()  # unique offsets, so that no two records have the same position

DATASETS = {
    "products.csv": "sku,name,unit_price_cents,currency,on_hand\n"
    "mug,A mug,1250,EUR,100\npot,A pot,4000,EUR,10\nrare,A rare cup,99900,EUR,1\ngone,A sold-out cup,500,EUR,0\n",
    "customers.csv": "customer_id,name,balance_cents,currency\nada,Ada,1000000,EUR\npip,Pip,1000,EUR\n",
    "destinations.csv": "destination,name,carrier\nberlin,Berlin,heron-post\nutopia,Utopia,\n",
}


@asynccontextmanager
async def _empty_lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield


class ServiceHarness:
    """One service: its components, a client of its HTTP API, and its rows."""

    def __init__(self, service: Any, url: str, datasets: Path, **more: Any) -> None:
        settings = Settings(
            database_url=url, kafka_bootstrap_servers=NO_BROKER, datasets_dir=datasets, http_port=1, **more
        )
        self.service = service
        self.datasets = datasets
        self.runtime = Runtime(service, settings, switches.components_for(service, settings))
        make_schema(self.runtime.database.engine, service, datasets)
        self.runtime.database.schema_created.set()
        app = make_app(service, settings, self.runtime.database, self.runtime.consumer, _empty_lifespan)
        self.app_server = AppServer(app)
        self.http = self.app_server.client

    def reset(self) -> None:
        """Restore the opening data."""
        with self.runtime.database.engine.begin() as connection:
            for table in self.service.tables.tables:  # TRUNCATE takes six times as long for so few rows
                connection.execute(text(f"DELETE FROM {table}"))
            self.service.load_opening_data(connection, self.datasets)

    def rows(self, table: str, **equal: Any) -> list[Row[Any]]:
        """Return the rows of a table in the order of its primary key."""
        it = self.service.tables.tables[table]
        query = select(it).filter_by(**equal).order_by(*it.primary_key.columns)
        with self.runtime.database.engine.connect() as connection:
            return list(connection.execute(query))

    def errors(self) -> list[str]:
        """Return the errors of the parked records."""
        return [row.error for row in self.rows("parked_records")]

    def published(self, order_id: UUID | None = None) -> list[str]:
        """Return the types of the events in the outbox."""
        return [row.type for row in self.rows("outbox") if order_id in (None, row.aggregateid)]

    def handle(self, event: Event, event_id: UUID | None = None, traceparent: str | None = None) -> Outcome:
        """Let the service handle an event, as its consumer would."""
        return self.runtime.handling.handle(record_of(event, event_id, traceparent))


class World:
    """The four services."""

    def __init__(self, urls: dict[str, str], datasets: Path) -> None:
        self.harnesses = {service.name: ServiceHarness(service, urls[service.name], datasets) for service in SERVICES}
        self.order = self.harnesses["order"]
        self.inventory = self.harnesses["inventory"]
        self.payment = self.harnesses["payment"]
        self.shipping = self.harnesses["shipping"]

    def reset(self) -> None:
        """Restore the opening data of all services."""
        for harness in self.harnesses.values():
            harness.reset()

    def close(self) -> None:
        """Close all connections."""
        for harness in self.harnesses.values():
            harness.app_server.close()
            harness.runtime.database.engine.dispose()

    def place(self, customer_id: str = "ada", destination: str = "berlin", **quantities: int) -> UUID:
        """Place an order over HTTP, and return its id."""
        items = [{"sku": sku, "quantity": number} for sku, number in (quantities or {"mug": 2}).items()]
        body = {"customer_id": customer_id, "destination": destination, "items": items}
        answer = self.order.http.post("/orders", json=body)
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["order_id"])

    def status(self, order_id: UUID) -> str:
        """Return an order's status, read over HTTP."""
        return str(self.order.http.get(f"/orders/{order_id}").json()["status"])

    def history(self, order_id: UUID) -> list[str]:
        """Return the statuses of an order's history, read over HTTP."""
        items = self.order.http.get(f"/orders/{order_id}/history").json()["items"]
        return [item["status"] for item in items]

    def relay(self, rng: random.Random | None = None) -> Generator[tuple[str, str, Outcome], None, None]:
        """Deliver every event to every service that consumes its topic, until no service publishes a new one.

        Each service consumes each topic in order. Which topic is next is random.
        """
        read: dict[tuple[str, str], int] = {}
        while True:
            waiting = []
            for writer in self.harnesses.values():
                topic = f"{writer.service.name}.events"
                events = writer.rows("outbox")
                for reader in self.harnesses.values():
                    at = (reader.service.name, topic)
                    if topic in reader.service.topics and read.get(at, 0) < len(events):
                        waiting.append((reader, at, events[read.get(at, 0)]))
            if not waiting:
                return
            reader, at, row = rng.choice(waiting) if rng else waiting[0]
            read[at] = read.get(at, 0) + 1
            yield reader.service.name, row.type, reader.runtime.handling.handle(record_of_row(row))

    def settle(self, rng: random.Random | None = None) -> None:
        """Deliver every event."""
        for _ in self.relay(rng):
            pass

    def balance(self, customer_id: str = "ada") -> int:
        """Return a balance in cents, read over HTTP."""
        return int(self.payment.http.get(f"/payments/accounts/{customer_id}").json()["balance_cents"])

    def stock(self, sku: str = "mug") -> tuple[int, int, int]:
        """Return the quantities of a product on hand, reserved and shipped, read over HTTP."""
        product = self.inventory.http.get(f"/inventory/products/{sku}").json()
        return product["on_hand"], product["reserved"], product["shipped"]


def make_order_created(**other: Any) -> OrderCreated:
    """Return the first event of an order: by default two mugs for Ada in Berlin."""
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
    """Return the record that Debezium would publish for an event."""
    headers = {
        "ce_id": str(event_id or uuid7()),
        "ce_type": event.type(),
        "ce_dataschema": event.dataschema(),
        **({"traceparent": traceparent} if traceparent else {}),
    }
    return Record(event.topic, 0, next(_OFFSETS), str(event.order_id), event.model_dump_json().encode(), headers)


def record_of_row(row: Row[Any]) -> Record:
    """Return the record that Debezium would publish for an outbox row."""
    headers = {
        "ce_id": str(row.id),
        "ce_type": row.type,
        "ce_source": row.source,
        "ce_time": row.created_at.isoformat(),
        "ce_specversion": row.specversion,
        "ce_dataschema": row.dataschema,
        "content-type": "application/json",
    }
    if row.traceparent:
        headers["traceparent"] = row.traceparent
    if row.causation_id:
        headers["causation_id"] = str(row.causation_id)
    value = json.dumps(row.payload).encode()
    return Record(f"{row.aggregatetype}.events", 0, next(_OFFSETS), str(row.aggregateid), value, headers)


def changed(record: Record, **other: Any) -> Record:
    """Return a copy of a record with some attributes changed."""
    return dataclasses.replace(record, **other)
