"""Returns, step 2: read what arrives in the warehouse, and pay each refund once."""

import json
import os
import signal
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from sqlalchemy import DateTime, create_engine
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

TOPIC = os.environ["PARCELS_TOPIC"]
DEAD_LETTERS = os.environ["DEAD_LETTER_TOPIC"]
GROUP = os.environ["GROUP_ID"]
MAX_ATTEMPTS = int(os.environ["MAX_ATTEMPTS"])
RETRY_SECONDS = float(os.environ["RETRY_SECONDS"])

engine = create_engine(os.environ["DATABASE_URL"])
Session = sessionmaker(engine)


class Base(DeclarativeBase):
    """The base of the tables."""


class Inbox(Base):
    """An event that was handled."""

    __tablename__ = "inbox"
    event_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)


class Refund(Base):
    """A refund that was paid: return_id, order_id, amount_cents, paid_at."""

    __tablename__ = "refunds"
    refund_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    return_id: Mapped[uuid.UUID]
    order_id: Mapped[uuid.UUID]
    amount_cents: Mapped[int]
    paid_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


def create_tables() -> None:
    """Create the tables that do not exist yet."""
    Base.metadata.create_all(engine)


def handle(event_id: uuid.UUID, parcel: dict[str, Any]) -> None:
    """Pay a refund, unless the event was handled before: both in one transaction."""
    with Session.begin() as session:
        is_new = session.scalar(
            insert(Inbox).values(event_id=event_id).on_conflict_do_nothing().returning(Inbox.event_id)
        )
        if is_new:
            session.add(
                Refund(
                    return_id=uuid.UUID(parcel["return_id"]),
                    order_id=uuid.UUID(parcel["order_id"]),
                    amount_cents=parcel["amount_cents"],
                    paid_at=datetime.now(UTC),
                )
            )


class Worker:
    """Consumes the topic; a failing record waits, and holds only its partition."""

    def __init__(self) -> None:
        servers = {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"]}
        self.consumer = Consumer(
            {**servers, "group.id": GROUP, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        )
        self.producer = Producer({**servers, "enable.idempotence": True})
        self.waiting: dict[int, tuple[Message, int, float]] = {}  # by partition: record, attempts, next attempt
        self.running = True

    def run(self) -> None:
        """Handle records until `stop`; then leave the group."""
        self.consumer.subscribe([TOPIC], on_revoke=self.forget)
        while self.running:
            message = self.consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.attempt(message, 1)
            for waiting, attempts, due in list(self.waiting.values()):
                if time.monotonic() >= due:
                    self.attempt(waiting, attempts + 1)
        self.consumer.close()

    def stop(self, *_: object) -> None:
        """End after the current record."""
        self.running = False

    def forget(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Drop the waiting records of lost partitions: their new owner reads them again."""
        for lost in partitions:
            self.waiting.pop(lost.partition, None)
        self.consumer.resume(partitions)

    def attempt(self, message: Message, number: int) -> None:
        """Handle a record; after a failure, let it wait or publish it as a dead letter."""
        try:
            headers = dict(message.headers() or [])
            handle(uuid.UUID(headers["ce_id"].decode()), json.loads(message.value()))
        except OperationalError:  # the database is unavailable, which is not the record's fault
            return self.wait(message, number - 1)
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # no attempt will ever succeed
            self.publish_dead_letter(message, number, error)
        except Exception as error:
            if number < MAX_ATTEMPTS:
                return self.wait(message, number)
            self.publish_dead_letter(message, number, error)
        self.finish(message)

    def wait(self, message: Message, attempts: int) -> None:
        """Pause the record's partition until the next attempt."""
        self.waiting[message.partition()] = (message, attempts, time.monotonic() + RETRY_SECONDS)
        self.consumer.pause([TopicPartition(TOPIC, message.partition())])

    def finish(self, message: Message) -> None:
        """Commit the record's offset, and go on with its partition."""
        if self.waiting.pop(message.partition(), None):
            self.consumer.resume([TopicPartition(TOPIC, message.partition())])
        try:
            self.consumer.commit(message=message, asynchronous=False)
        except KafkaException as error:  # this instance has lost the partition; the inbox covers a repetition
            print(f"offset not committed: {error}")

    def publish_dead_letter(self, message: Message, attempts: int, error: Exception) -> None:
        """Publish a record unchanged, with the failure in its headers, and wait for the broker's acknowledgement."""
        failure = {"topic": TOPIC, "partition": message.partition(), "offset": message.offset(), "attempts": attempts}
        added = {**failure, "error": f"{type(error).__name__}: {error}"[:500]}
        headers = [*(message.headers() or []), *((f"dlq.{name}", str(value)) for name, value in added.items())]
        self.producer.produce(DEAD_LETTERS, message.value(), message.key(), headers=headers)
        if self.producer.flush(30):
            raise RuntimeError("the broker did not acknowledge a dead letter")


def main() -> None:
    """Consume the topic until SIGTERM."""
    worker = Worker()
    signal.signal(signal.SIGTERM, worker.stop)
    worker.run()


if __name__ == "__main__":
    main()
