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


class Refund(Base):
    """A refund that was paid: return_id, order_id, amount_cents, paid_at."""

    __tablename__ = "refunds"


def create_tables() -> None:
    """Create the tables that do not exist yet."""
    raise NotImplementedError


def main() -> None:
    """Consume the topic until SIGTERM."""
    raise NotImplementedError


if __name__ == "__main__":
    main()
