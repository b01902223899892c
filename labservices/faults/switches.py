"""Fault switches: faulty strategies that a lesson uses in place of the correct ones, to show why those are needed.

The strategies exist only in this module. When a process starts with a switch on, this module replaces the component
that the switch names. The code of the services, which people read and copy, stays correct.
"""

import functools
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from sqlalchemy import (
    Connection,
    Delete,
    Engine,
    PrimaryKeyConstraint,
    Row,
    Select,
    Table,
    UniqueConstraint,
    Update,
    bindparam,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.sql.dml import ReturningInsert

from labservices.events import Event, InventoryReserved, OrderCreated, PaymentCompleted
from labservices.ids import uuid7
from labservices.messaging.consumer import EventConsumer, producer_settings
from labservices.messaging.handling import Call
from labservices.messaging.inbox import Admission, Inbox
from labservices.messaging.outbox import Outbox
from labservices.record import Envelope
from labservices.runtime import Components
from labservices.service import Handler, Service
from labservices.settings import FAULT_SWITCHES, Settings
from labservices.storage.database import Database, Transaction

log = logging.getLogger(__name__)


def components_for(service: Service, settings: Settings) -> Components:
    """Return a service's components: the correct ones, except those that a switch replaces."""
    components = Components(prepare=restore_unique_keys)
    on = settings.teaching_switches
    for switch, value in sorted(on.items(), key=lambda item: list(FAULT_SWITCHES).index(item[0])):
        log.warning("the fault switch %s is on", f"{switch}={value}" if value else switch)
        match switch:
            case "inbox-off":
                components = replace(components, inbox=NoInbox)
            case "guards-off":
                call = functools.partial(without_guards, components.call)
                components = replace(components, transaction=UnguardedTransaction, prepare=drop_unique_keys, call=call)
            case "dual-write":
                sender = Sender(producer_settings(service, settings), crash=value)
                components = replace(
                    components, outbox=NoOutbox, database=functools.partial(DualWriting, sender=sender)
                )
            case "offset-first":
                components = replace(components, consumer=OffsetFirst)
            case "slow-handler":
                components = replace(
                    components, call=functools.partial(call_slowly, components.call, float(value or 0.5))
                )
            case "poison-next":
                components = replace(components, call=Poison(components.call))
            case "strip-traceparent":
                components = replace(components, outbox=UntracedNoOutbox if "dual-write" in on else UntracedOutbox)
    return components


# --- inbox-off


class NoInbox(Inbox):
    """Treats every event as new."""

    def admit(self, connection: Connection, envelope: Envelope, *, is_first_parked: bool = False) -> Admission:
        """Admit the event as new."""
        return Admission.NEW


# --- guards-off

COMMANDS = (OrderCreated, InventoryReserved, PaymentCompleted)
"""The events that trigger a step of the saga, as opposed to its compensation."""


class UnguardedTransaction(Transaction):
    """Executes a command without checking the order's earlier state."""

    is_command = False

    def insert_or_lock(self, table: Table, values: dict[str, Any]) -> Row[Any]:
        """Insert a row for a command, even if the order has one; return the newest row for any other event."""
        row = None if self.is_command else self.execute(_newest_row(table), values).one_or_none()
        return row or self.execute(_new_row(table), values).one()

    def move(self, table: Table, order_id: UUID, expected: str, **new: Any) -> None:
        """Update the order's rows, whatever their status."""
        self.execute(_all_rows(table), {"moved": order_id, **new})


@functools.cache
def _newest_row(table: Table) -> Select[Any]:
    newest = next(iter(table.primary_key.columns)).desc()
    return select(table).where(table.c.order_id == bindparam("order_id")).order_by(newest).limit(1)


@functools.cache
def _new_row(table: Table) -> ReturningInsert[Any]:
    return table.insert().returning(table)


@functools.cache
def _all_rows(table: Table) -> Update:
    return table.update().where(table.c.order_id == bindparam("moved"))


def without_guards(call: Call, handler: Handler, tx: Transaction, envelope: Envelope) -> None:
    """Set whether the transaction handles a command, and call the handler."""
    if isinstance(tx, UnguardedTransaction):
        tx.is_command = isinstance(envelope.event, COMMANDS)
    call(handler, tx, envelope)


def drop_unique_keys(engine: Engine, service: Service) -> None:
    """Drop the last guards: the unique keys in the database."""
    with engine.begin() as connection:
        for table, _, name, _ in _unique_keys(service):
            connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}"))


def restore_unique_keys(engine: Engine, service: Service) -> None:
    """Restore the keys that `drop_unique_keys` dropped.

    If an order has several rows instead of one, only the first is kept, since no handler works without that key. A
    duplicate effect stays visible; its key is restored after the duplicate is removed, for example by `lab reset`.
    """
    if missing := _restore(engine, service):
        log.warning(
            "unique keys stay dropped until the duplicate rows are removed (`lab reset`): %s", ", ".join(missing)
        )
        threading.Thread(target=_restore_later, args=(engine, service), name="unique-keys", daemon=True).start()


def _restore_later(engine: Engine, service: Service) -> None:
    missing = True
    while missing:
        time.sleep(0.5)
        with suppress(DBAPIError):  # the database is unavailable: try again
            missing = bool(_restore(engine, service))


def _restore(engine: Engine, service: Service) -> list[str]:
    """Restore the unique keys where possible, and return the names of the others."""
    with engine.connect() as connection:
        existing = set(
            connection.execute(text("SELECT conname FROM pg_constraint WHERE contype IN ('p', 'u')")).scalars()
        )
    missing = []
    for table, columns, name, definition in _unique_keys(service):
        if name in existing:
            continue
        try:
            with engine.begin() as connection:
                if columns == ["order_id"]:
                    connection.execute(_all_but_the_first_row(service.tables.tables[table]))
                connection.execute(text(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"))
        except IntegrityError:
            missing.append(name)
    return missing


def _all_but_the_first_row(table: Table) -> Delete:
    first, row_id = table.alias(), next(iter(table.primary_key.columns))
    return table.delete().where(first.c.order_id == table.c.order_id, first.c[row_id.name] < row_id)


def _unique_keys(service: Service) -> Iterator[tuple[str, list[str], str, str]]:
    """Yield the keys that allow one row per order and one of each effect: table, columns, name and definition."""
    for table in service.tables.sorted_tables:
        for key in table.constraints:
            if not isinstance(key, UniqueConstraint | PrimaryKeyConstraint):
                continue
            columns = [column.name for column in key.columns]
            is_unique = isinstance(key, UniqueConstraint)
            if "effect" in columns or columns == ["aggregateid", "type"] or (is_unique and columns == ["order_id"]):
                name = f"{table.name}_{'_'.join(columns)}_key" if is_unique else f"{table.name}_pkey"
                yield table.name, columns, name, f"{'UNIQUE' if is_unique else 'PRIMARY KEY'} ({', '.join(columns)})"


# --- dual-write


class NoOutbox(Outbox):
    """Keeps events in memory, to be sent after the commit."""

    _unsent = threading.local()

    def add(self, connection: Connection, event: Event, cause: UUID | None) -> UUID:
        """Add an event to the list in memory, without an outbox row."""
        headers = {
            "ce_id": str(uuid7()),
            "ce_type": event.type(),
            "ce_source": f"urn:sagalab:{self._service}",
            "ce_specversion": "1.0",
            "ce_dataschema": event.dataschema(),
            "content-type": "application/json",
            "traceparent": self.traceparent(),
            "causation_id": str(cause) if cause else None,
        }
        self.unsent().append((event, {name: value for name, value in headers.items() if value is not None}))
        return UUID(headers["ce_id"])

    def unsent(self) -> list[tuple[Event, dict[str, str]]]:
        """Return the events of this thread's transaction."""
        if not hasattr(self._unsent, "events"):
            self._unsent.events = []
        events: list[tuple[Event, dict[str, str]]] = self._unsent.events
        return events


class Sender:
    """Sends events directly to Kafka.

    ``crash`` specifies whether the process is killed between the two writes, and at which point.
    """

    def __init__(self, settings: dict[str, Any], crash: str) -> None:
        self._settings = settings
        self._producer: Producer | None = None
        self.crash = crash

    def send(self, events: list[tuple[Event, dict[str, str]]]) -> None:
        """Send events, and wait until the broker acknowledges them or the wait times out."""
        self._producer = self._producer or Producer(self._settings | {"message.timeout.ms": 5000, "linger.ms": 0})
        for event, headers in events:
            all_headers: dict[str, str | bytes | None] = {**headers}
            self._producer.produce(event.topic, event.model_dump_json(), str(event.order_id), headers=all_headers)
        self._producer.flush(6)


class DualWriting(Database):
    """Writes to the database and then to Kafka, without atomicity between the two."""

    def __init__(self, url: str, outbox: Outbox, transaction: type[Transaction], *, sender: Sender) -> None:
        super().__init__(url, outbox, transaction)
        assert isinstance(outbox, NoOutbox)
        self._unsent = outbox.unsent
        self._sender = sender

    @contextmanager
    def transaction(self, cause: UUID | None = None) -> Iterator[Transaction]:
        """Run a block in one transaction, and send its events after the commit."""
        self._unsent().clear()
        with super().transaction(cause) as tx:
            yield tx
            events = list(self._unsent())
            if events and self._sender.crash == "crash-before-commit":
                self._sender.send(events)
                os._exit(137)
        if events and self._sender.crash == "crash-after-commit":
            os._exit(137)
        if events:
            self._sender.send(events)


# --- offset-first


class OffsetFirst(EventConsumer):
    """Commits the offset of a record before handling it."""

    def _receive(self, consumer: Consumer, message: Message) -> None:
        if not message.error():
            next_offset = TopicPartition(message.topic() or "", message.partition() or 0, (message.offset() or 0) + 1)
            try:
                consumer.commit(offsets=[next_offset], asynchronous=False)
            except KafkaException as error:
                log.warning("the offset commit failed: %s", error)
        super()._receive(consumer, message)


# --- slow-handler, poison-next


def call_slowly(call: Call, seconds: float, handler: Handler, tx: Transaction, envelope: Envelope) -> None:
    """Sleep inside the transaction, and then call the handler."""
    time.sleep(seconds)
    call(handler, tx, envelope)


class Poisoned(Exception):
    """The switch poison-next makes this event fail."""


class Poison:
    """Fails on one event: the first that it receives."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._poisoned_id: UUID | None = None

    def __call__(self, handler: Handler, tx: Transaction, envelope: Envelope) -> None:
        """Call the handler, unless this is the chosen event."""
        self._poisoned_id = self._poisoned_id or envelope.event_id
        if envelope.event_id == self._poisoned_id:
            raise Poisoned(f"{envelope.event.type()} {envelope.event_id} (the switch poison-next is on)")
        self._call(handler, tx, envelope)


# --- strip-traceparent


class UntracedOutbox(Outbox):
    """Drops the trace context of events."""

    def traceparent(self) -> str | None:
        """Return None."""
        return None


class UntracedNoOutbox(UntracedOutbox, NoOutbox):
    """Drops the trace context while `dual-write` is on."""
