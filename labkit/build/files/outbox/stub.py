"""Returns, step 1: store a return and its event in one transaction."""

import os
import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, create_engine, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

engine = create_engine(os.environ["DATABASE_URL"])
Session = sessionmaker(engine)


class Base(DeclarativeBase):
    """The base of the tables."""


class Return(Base):
    """A return: return_id, order_id, customer_id, amount_cents, status, requested_at."""

    __tablename__ = "returns"


class OutboxEvent(Base):
    """An event: id, aggregatetype, aggregateid, type, payload, traceparent, created_at."""

    __tablename__ = "outbox"


def create_tables() -> None:
    """Create the tables that do not exist yet."""
    raise NotImplementedError


def request_return(order_id: str, customer_id: str, lines: list[dict[str, Any]], traceparent: str) -> str:
    """Store the return of an order with its event, and return the return's id.

    Each of the lines has a sku, a quantity and a unit_price_cents.
    """
    raise NotImplementedError
