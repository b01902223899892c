"""Wrong on purpose: strategies that a lesson puts in the place of the right ones, to show what those are for.

Nothing outside this module knows of them. When a process starts with a switch on, the part that the switch names is
exchanged here; the code of the services, which people read and copy, stays as it should be.
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

from labservices.settings import SWITCHES, Settings
from labservices.shared.consumer import EventConsumer, producer_settings
from labservices.shared.database import Database, Transaction
from labservices.shared.events import Event, InventoryReserved, OrderCreated, PaymentCompleted
from labservices.shared.handling import Call
from labservices.shared.ids import uuid7
from labservices.shared.inbox import Admission, Inbox
from labservices.shared.outbox import Outbox
from labservices.shared.record import Envelope
from labservices.shared.runtime import Parts
from labservices.shared.service import Handler, Service

log = logging.getLogger(__name__)


def parts_for(service: Service, settings: Settings) -> Parts:
    """Choose a service's parts: the right ones, but for those that a switch exchanges."""
    parts = Parts(prepare=put_unique_keys_back)
    on = settings.teaching_switches
    for switch, value in sorted(on.items(), key=lambda item: list(SWITCHES).index(item[0])):
        log.warning("the switch %s is on", f"{switch}={value}" if value else switch)
        match switch:
            case "inbox-off":
                parts = replace(parts, inbox=NoInbox)
            case "guards-off":
                call = functools.partial(without_guards, parts.call)
                parts = replace(parts, transaction=UnguardedTransaction, prepare=drop_unique_keys, call=call)
            case "dual-write":
                sender = Sender(producer_settings(service, settings), crash=value)
                parts = replace(parts, outbox=NoOutbox, database=functools.partial(DualWriting, sender=sender))
            case "offset-first":
                parts = replace(parts, consumer=OffsetFirst)
            case "slow-handler":
                parts = replace(parts, call=functools.partial(slowly, parts.call, float(value or 0.5)))
            case "poison-next":
                parts = replace(parts, call=Poison(parts.call))
            case "strip-traceparent":
                parts = replace(parts, outbox=UntracedNoOutbox if "dual-write" in on else UntracedOutbox)
    return parts


# --- inbox-off


class NoInbox(Inbox):
    """Takes every event for a new one."""

    def admit(self, connection: Connection, envelope: Envelope, *, is_its_turn: bool = False) -> Admission:
        """Let it pass."""
        return Admission.NEW


# --- guards-off

COMMANDS = (OrderCreated, InventoryReserved, PaymentCompleted)
"""The events upon which something is done, not undone."""


class UnguardedTransaction(Transaction):
    """Does what a command says, without asking what its order has seen before."""

    is_command = False

    def insert_or_lock(self, table: Table, values: dict[str, Any]) -> Row[Any]:
        """Make a new row for a command, however many there are; find the newest one for everything else."""
        row = None if self.is_command else self.execute(_newest_row(table), values).one_or_none()
        return row or self.execute(_new_row(table), values).one()

    def move(self, table: Table, order_id: UUID, expected: str, **new: Any) -> None:
        """Change the order's rows, whatever their status."""
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
    """Tell the transaction whether it is for a command."""
    if isinstance(tx, UnguardedTransaction):
        tx.is_command = isinstance(envelope.event, COMMANDS)
    call(handler, tx, envelope)


def drop_unique_keys(engine: Engine, service: Service) -> None:
    """Take the last guards away, those in the database."""
    with engine.begin() as connection:
        for table, _, name, _ in _unique_keys(service):
            connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}"))


def put_unique_keys_back(engine: Engine, service: Service) -> None:
    """Undo `drop_unique_keys`, if it was done.

    Where an order has several rows in the place of one, the first stays, since no handler works without that key. An
    effect that was taken twice stays to be seen; its key comes back once somebody, such as `lab reset`, clears it away.
    """
    if missing := _put_back(engine, service):
        log.warning("without guards, until what is there twice was cleared away: %s", ", ".join(missing))
        threading.Thread(target=_put_back_later, args=(engine, service), name="unique-keys", daemon=True).start()


def _put_back_later(engine: Engine, service: Service) -> None:
    missing = True
    while missing:
        time.sleep(0.5)
        with suppress(DBAPIError):  # the database is away: it is asked again
            missing = bool(_put_back(engine, service))


def _put_back(engine: Engine, service: Service) -> list[str]:
    """Put back the unique keys that can be; answer the names of the others."""
    with engine.connect() as connection:
        there = set(connection.execute(text("SELECT conname FROM pg_constraint WHERE contype IN ('p', 'u')")).scalars())
    missing = []
    for table, columns, name, definition in _unique_keys(service):
        if name in there:
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
    """Find the keys by which an order has one row and each effect once: table, columns, name and definition."""
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
    """Keeps what is said in memory, for someone to send it."""

    _said = threading.local()

    def add(self, connection: Connection, event: Event, cause: UUID | None) -> UUID:
        """Note an event; no row tells of it."""
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
        self.said().append((event, {name: value for name, value in headers.items() if value is not None}))
        return UUID(headers["ce_id"])

    def said(self) -> list[tuple[Event, dict[str, str]]]:
        """Return what this thread's transaction has said."""
        if not hasattr(self._said, "events"):
            self._said.events = []
        events: list[tuple[Event, dict[str, str]]] = self._said.events
        return events


class Sender:
    """Sends events to Kafka by itself, and perhaps dies on the way."""

    def __init__(self, settings: dict[str, Any], crash: str) -> None:
        self._settings = settings
        self._producer: Producer | None = None
        self.crash = crash

    def send(self, events: list[tuple[Event, dict[str, str]]]) -> None:
        """Send events, and wait until the broker has them or the patience is over."""
        self._producer = self._producer or Producer(self._settings | {"message.timeout.ms": 5000, "linger.ms": 0})
        for event, headers in events:
            written: dict[str, str | bytes | None] = {**headers}
            self._producer.produce(event.topic, event.model_dump_json(), str(event.order_id), headers=written)
        self._producer.flush(6)


class DualWriting(Database):
    """Writes twice: to the database, and then to Kafka. Nothing makes the two one."""

    def __init__(self, url: str, outbox: Outbox, transaction: type[Transaction], *, sender: Sender) -> None:
        super().__init__(url, outbox, transaction)
        assert isinstance(outbox, NoOutbox)
        self._said = outbox.said
        self._sender = sender

    @contextmanager
    def transaction(self, cause: UUID | None = None) -> Iterator[Transaction]:
        """Run a block in one transaction, and send what it said after the commit."""
        self._said().clear()
        with super().transaction(cause) as tx:
            yield tx
            events = list(self._said())
            if events and self._sender.crash == "crash-before-commit":
                self._sender.send(events)
                os._exit(137)
        if events and self._sender.crash == "crash-after-commit":
            os._exit(137)
        if events:
            self._sender.send(events)


# --- offset-first


class OffsetFirst(EventConsumer):
    """Says that a record is done, and then does it."""

    def _take(self, consumer: Consumer, message: Message) -> None:
        if not message.error():
            next_one = TopicPartition(message.topic() or "", message.partition() or 0, (message.offset() or 0) + 1)
            try:
                consumer.commit(offsets=[next_one], asynchronous=False)
            except KafkaException as error:
                log.warning("offset not committed: %s", error)
        super()._take(consumer, message)


# --- slow-handler, poison-next


def slowly(call: Call, seconds: float, handler: Handler, tx: Transaction, envelope: Envelope) -> None:
    """Take one's time, inside the transaction."""
    time.sleep(seconds)
    call(handler, tx, envelope)


class Poisoned(Exception):
    """The switch poison-next chose this event."""


class Poison:
    """Can't handle one event: the first that comes."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._chosen: UUID | None = None

    def __call__(self, handler: Handler, tx: Transaction, envelope: Envelope) -> None:
        """Handle an event, unless it is the chosen one."""
        self._chosen = self._chosen or envelope.event_id
        if envelope.event_id == self._chosen:
            raise Poisoned(f"{envelope.event.type()} {envelope.event_id} (the switch poison-next is on)")
        self._call(handler, tx, envelope)


# --- strip-traceparent


class UntracedOutbox(Outbox):
    """Forgets which trace an event belongs to."""

    def traceparent(self) -> str | None:
        """Tell nothing."""
        return None


class UntracedNoOutbox(UntracedOutbox, NoOutbox):
    """Forgets it while `dual-write` is on, too."""
